"""Files of published data sets: found under `data_dir`, or downloaded there once, or one clear error."""

from __future__ import annotations

import contextlib
import io
import logging
import socket
from collections.abc import Callable, Sequence
from pathlib import Path

from kdrun.artefacts import locked
from kdrun.errors import KdrunError

SECONDS = 10.0
"""How long a server may stay silent before a download counts as failed."""


def ensure(
    name: str, files: Sequence[Sequence[Path]], data_dir: Path, download: Callable[[], object]
) -> list[Path]:
    """The files of data set `name`: of each group of alternatives the first that is there.

    download: called once where one is missing; what it prints is swallowed, and what counts is whether the
    files are there afterwards. Raises KdrunError where they are not.
    """
    reason = "" if present(files) else fetched(name, files, data_dir, download)
    found = present(files)
    if found is None:
        missing = next(group[0] for group in files if not any(path.is_file() for path in group))
        what = missing if missing.parent.is_dir() else missing.parent
        problem = f"{what} is not there and could not be downloaded ({reason}). Put it there or set data_dir="
        raise KdrunError("dataset", name, problem)
    return found


def present(files: Sequence[Sequence[Path]]) -> list[Path] | None:
    """Of each group the first file that exists, or None where a group has none."""
    found = [next((path for path in group if path.is_file()), None) for group in files]
    return None if None in found else [path for path in found if path]


def fetched(
    name: str, files: Sequence[Sequence[Path]], data_dir: Path, download: Callable[[], object]
) -> str:
    """Download without output and with a time limit on silence; the reason in short where it fails."""
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
    # Whatever goes wrong between here and a server is the same to the user: the files are not there.
    except Exception as error:
        last = [type(error).__name__, *str(getattr(error, "reason", error)).strip().splitlines()][-1]
        return last.strip()[:80]
    finally:
        socket.setdefaulttimeout(before)
    return "nothing arrived"


def damaged(name: str, path: Path, problem: str) -> KdrunError:
    """The error for a file that is there and cannot be used."""
    return KdrunError("dataset", name, f"{path} is damaged: {problem}. Remove it to have it downloaded again")
