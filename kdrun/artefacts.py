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
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from kdrun.errors import KdrunError

RECIPE_VERSION = 1
"""Part of every fingerprint. Raised when the same configuration gives other results than before."""

LOCK, HELD = ".lock", ".held"
"""Files that are locked: by the one process that writes a folder, and by all that need it to stay."""

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What the system says where no more can be written: a full disk, a quota, a limit on the size of files."""

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

    The file's mode is what the umask leaves of 0666, whatever the writer gives it. A failed write (a full
    disk) leaves the old content and no temporary file. Raises OSError where the system refuses, also where a
    library calls that something else.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        mode = _new_file(temporary)
        write(temporary)
        temporary.chmod(mode)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        number = _full(error)
        if number is None or isinstance(error, OSError):
            raise
        raise OSError(number, os.strerror(number), str(path)) from error


def _new_file(path: Path) -> int:
    """An empty file in place of what has that name (a link is not followed). Returns its mode."""
    path.unlink(missing_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        return stat.S_IMODE(os.fstat(handle).st_mode)
    finally:
        os.close(handle)


def full_disk(error: BaseException) -> str:
    """`the disk is full (...)` where an error means that no more can be written, also where a library calls
    that something else; otherwise nothing.
    """
    number = _full(error)
    return f"the disk is full ({os.strerror(number)})" if number else ""


def _full(error: BaseException | None) -> int | None:
    """Which of FULL an error, or one that led to it, stands for."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in FULL:
            return error.errno
        for number in FULL:  # what is written in another language leaves a text only
            if os.strerror(number) in str(error) or f"os error {number})" in str(error):
                return number
        error = error.__cause__ or error.__context__
    return None


def open_own(path: Path, flags: int) -> int:
    """`os.open` for a file that kdrun alone writes, created with the mode that the umask gives.

    A link there may lead to a file of anyone's: it is not followed. Raises KdrunError for it, and OSError.
    """
    try:
        return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise KdrunError(str(path), None, "is a link, and kdrun writes through none; remove it") from error


def append_text(path: Path, text: str) -> None:
    """Adds to a log, at once and without following a link."""
    handle = open_own(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    with os.fdopen(handle, "a", encoding="utf-8") as file:
        file.write(text)


def write_text(path: Path, text: str) -> None:
    """The whole text, or what was there before.

    Letters of arguments that the locale cannot read are written as the bytes that were typed.
    """
    write_whole(path, lambda file: file.write_text(text, encoding="utf-8", errors="surrogateescape"))


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
    """Holds the folder for this process alone; the kernel lets go when the process ends, however it ends.

    waiting: called once with who holds it (`process 4711 on host`) if another process does.
    """
    handle = _lock(folder / LOCK, fcntl.LOCK_EX, waiting)
    try:
        with suppress(OSError):  # a full disk: who holds it cannot be said, and nothing else is lost
            os.ftruncate(handle, 0)
            os.pwrite(handle, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
        yield
    finally:
        os.close(handle)


@contextmanager
def held(folders: Iterable[Path]) -> Iterator[None]:
    """Keeps folders that a run works with or reads from being removed, from its beginning to its end.

    Any number of processes may hold a folder; `remove` and `unheld` respect it. A folder that is not there is
    made, and goes again if nothing was put into it. One that cannot be held (read-only) is passed over.
    """
    with ExitStack() as holding:
        for folder in sorted(set(folders)):
            with suppress(OSError):
                holding.callback(_let_go, folder, _lock(folder / HELD, fcntl.LOCK_SH))
        yield


@contextmanager
def unheld(folder: Path, more: Iterable[Path] = ()) -> Iterator[bool]:
    """Whether no process holds or locks a folder, nor one of `more`; none can within the block."""
    handles: list[int] = []
    try:
        yield all(_ours(each / name, handles) for each in (folder, *more) for name in (HELD, LOCK))
    finally:
        for handle in handles:
            os.close(handle)


def _ours(path: Path, handles: list[int]) -> bool:
    """Locks a file, if it is there, and keeps it open in `handles`; False where that is refused."""
    try:
        handles.append(open_own(path, os.O_RDONLY))
        return try_lock(handles[-1], fcntl.LOCK_EX)
    except FileNotFoundError:
        return True
    except (OSError, KdrunError):  # a lock that cannot be read may be held
        return False


def remove(folder: Path, more: Iterable[Path] = ()) -> bool:
    """Removes a folder; False where a process holds it, or one of `more`. Who begins meanwhile waits, and
    finds it gone.
    """
    with suppress(OSError):
        os.close(open_own(folder / HELD, os.O_RDWR | os.O_CREAT))
    with unheld(folder, more) as free:
        if free:
            shutil.rmtree(folder)
        return free


def _lock(path: Path, how: int, waiting: Callable[[str], None] = lambda holder: None) -> int:
    """A locked file, made anew as often as another process removes it with its folder."""
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            handle = _open_lock(path)
        except FileNotFoundError:  # the folder was removed just now
            continue
        try:
            if not try_lock(handle, how):
                waiting(os.pread(handle, 200, 0).decode(errors="replace") or "another process")
                fcntl.flock(handle, how)
            if _is_at(handle, path):
                return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def _open_lock(path: Path) -> int:
    """To be written, or if it is another user's to be read."""
    try:
        return open_own(path, os.O_RDWR | os.O_CREAT)
    except PermissionError as refused:
        try:
            return open_own(path, os.O_RDONLY)
        except FileNotFoundError:  # it cannot be made, so waiting for it would never end
            raise refused from None


def try_lock(handle: int, how: int = fcntl.LOCK_EX) -> bool:
    """Locks an open file until it is closed, unless another process has locked it."""
    try:
        fcntl.flock(handle, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_at(handle: int, path: Path) -> bool:
    """Whether an open file still has that name."""
    try:
        return os.path.samestat(os.fstat(handle), os.lstat(path))
    except FileNotFoundError:
        return False


def _let_go(folder: Path, handle: int) -> None:
    """The last that holds a folder leaves no trace of it."""
    try:
        if try_lock(handle, fcntl.LOCK_EX) and _is_at(handle, folder / HELD):
            with suppress(OSError):
                (folder / HELD).unlink()
                folder.rmdir()  # only if it is empty
    finally:
        os.close(handle)


def empty(folder: Path) -> None:
    """Removes everything in the folder but its locks, so that a holder keeps it. Raises KdrunError for a
    link: what lies behind it may be anyone's.
    """
    if folder.is_symlink():
        raise KdrunError(str(folder), None, "is a link, and kdrun empties no folder through one; remove it")
    for path in folder.iterdir():
        if path.name in (LOCK, HELD):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def sweep_parts(folder: Path) -> None:
    """Removes what killed processes left half written; to be called by the holder of the lock."""
    for path in folder.glob(".*.part"):
        path.unlink(missing_ok=True)
