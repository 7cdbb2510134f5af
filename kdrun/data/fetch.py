"""Files of published data sets: found below `data_dir`, or downloaded there once, or one clear error."""

from __future__ import annotations

import contextlib
import io
import logging
import socket
from collections.abc import Callable, Sequence
from pathlib import Path

from kdrun.artefacts import locked
from kdrun.errors import KdrunError
from kdrun.paths import no_folder

SECONDS = 10.0
"""How long a server may stay silent before a download counts as failed."""


def ensure(
    name: str, files: Sequence[Sequence[Path]], data_dir: Path, download: Callable[[], object]
) -> list[Path]:
    """The files of data set `name`: the first of each group of alternatives that exists.

    download: called once if a file is missing. Its output is discarded. Raises KdrunError if a file is still
    missing afterwards.
    """
    if problem := no_folder(data_dir):
        raise KdrunError("data_dir", data_dir, problem)
    reason = "" if present(files) else fetched(name, files, data_dir, download)
    paths = present(files)
    if paths is None:
        missing = next(group[0] for group in files if not any(path.is_file() for path in group))
        what = missing if missing.parent.is_dir() else missing.parent
        problem = f"{what} is not there and could not be downloaded ({reason}). Put it there or set data_dir="
        raise KdrunError("dataset", name, problem)
    return paths


def present(files: Sequence[Sequence[Path]]) -> list[Path] | None:
    """The first file of each group that exists, or None if a group has none."""
    first = [next((path for path in group if path.is_file()), None) for group in files]
    return None if None in first else [path for path in first if path]


def fetched(
    name: str, files: Sequence[Sequence[Path]], data_dir: Path, download: Callable[[], object]
) -> str:
    """Downloads without output, with a time limit on silence. Returns a short reason if that fails."""
    logging.getLogger(__name__).info("downloading %s into %s", name, data_dir)
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(SECONDS)
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        with (
            locked(data_dir),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            if present(files) is None:
                download()
    # Whatever goes wrong on the way to a server means the same to the user: the files are not there.
    except Exception as error:
        last = [type(error).__name__, *str(getattr(error, "reason", error)).strip().splitlines()][-1]
        return last.strip()[:80]
    finally:
        socket.setdefaulttimeout(before)
    return "nothing arrived"


def damaged(name: str, path: Path, problem: str) -> KdrunError:
    """The error for a file that is there and cannot be used."""
    return KdrunError("dataset", name, f"{path} is damaged: {problem}. Remove it to have it downloaded again")
