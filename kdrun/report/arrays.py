"""Files of named arrays (.npz) beside a run's report."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdrun.artefacts import write_whole

Arrays = dict[str, NDArray[Any]]
"""The arrays of a file by name; empty if there is none."""


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Writes the file: whole, or not at all."""

    def save(part: Path) -> None:
        with part.open("wb") as file:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]

    write_whole(path, save)


def read_arrays(path: Path) -> Arrays:
    """The arrays of a file; empty without the file, or if it cannot be read."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return dict(file)
    except (OSError, ValueError, EOFError, KeyError, RuntimeError, zipfile.BadZipFile, zlib.error):
        return {}
