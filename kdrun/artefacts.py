"""Folders that are made once: fingerprints, writes that are whole or not there, locks that die with their
holder.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

RECIPE_VERSION = 1
"""Part of every fingerprint. Raised when the same configuration gives other results than before."""

LOCK = ".lock"

STARTED = "KDRUN_STARTED"
"""In the environment: when the command began, in seconds since the epoch."""


def fingerprint(content: Any) -> str:
    """12 hex digits of the SHA-256 of plain values (dicts, lists, numbers, text); 2 and 2.0 are the same."""
    text = json.dumps(_normal(content), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _normal(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _normal(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_normal(item) for item in value]
    if isinstance(value, (bool, str)) or value is None:
        return value
    if isinstance(value, (int, float)):
        return float(value)
    raise TypeError(f"no fingerprint of a {type(value).__name__}")


def file_hash(path: Path) -> str:
    """64 hex digits of the SHA-256 of a file's content."""
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Calls `write(temporary)` beside `path`, syncs, renames: `path` holds the old content or all of the new.

    A failed write (a full disk) leaves the old content and no temporary file.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        write(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def write_text(path: Path, text: str) -> None:
    """The whole text, or what was there before."""
    write_whole(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_json(path: Path, content: Any) -> None:
    """The whole content as JSON, or what was there before."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """The content of a JSON file. Raises OSError or ValueError."""
    return json.loads(path.read_text(encoding="utf-8"))


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:  # some network file systems cannot sync a folder
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(handle)


@contextmanager
def locked(folder: Path, waiting: Callable[[str], None] = lambda holder: None) -> Iterator[None]:
    """Holds the folder for this process; the kernel lets go when the process ends, however it ends.

    waiting: called once with who holds it (`process 4711 on host`) if another process does.
    """
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        _take(handle, waiting)
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
        yield
    finally:
        os.close(handle)


def _take(handle: int, waiting: Callable[[str], None]) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        waiting(os.pread(handle, 200, 0).decode(errors="replace") or "another process")
        fcntl.flock(handle, fcntl.LOCK_EX)


def empty(folder: Path) -> None:
    """Removes everything in the folder but its lock, so that a holder keeps it."""
    for path in folder.iterdir():
        if path.name == LOCK:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def sweep_parts(folder: Path) -> None:
    """Removes what killed processes left half written; to be called by the holder of the lock."""
    for path in folder.glob(".*.part"):
        path.unlink(missing_ok=True)
