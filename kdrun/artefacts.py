"""Folders of trainings: fingerprints, atomic writes, and locks that end with their process."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shutil
import socket
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from glob import escape
from itertools import count
from pathlib import Path
from typing import Any

from kdrun.errors import KdrunError

RECIPE_VERSION = 1
"""Part of every fingerprint. Raised when the same configuration gives other results than before."""

OURS = (".json", ".jsonl", ".safetensors", ".pt", ".npz", ".csv", ".txt", ".md", ".png", ".yaml", ".tex")
"""How files end that kdrun writes beside a model or a report."""

LOCK, HELD = ".lock", ".held"
"""Files to lock: by the one process that writes a folder, and by all processes that use it."""

BEAT = ".beat"
"""The file that a worker on a cluster touches again and again while it writes a folder."""

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Errors of the system if nothing more can be written: full disk, quota, limit on file sizes."""

STARTED = "KDRUN_STARTED"
"""Environment variable: the start of the command, in seconds since 1970."""


def fingerprint(content: Any) -> str:
    """12 hex digits of the SHA-256 of plain values (dicts, lists, numbers, text). 2 and 2.0 give the same."""
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
    """Calls `write(temporary)` beside `path`, syncs, renames: `path` holds the old content or all of the new,
    with mode 0666 minus the umask. A failed write (a full disk) leaves the old content and no temporary file;
    the next write removes that of a killed process. Raises OSError, even if a library raises another error
    for it.
    """
    sweep_parts(path.parent, path.name)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    handle = None
    try:
        handle = _new_file(temporary)
        mode = stat.S_IMODE(os.fstat(handle).st_mode)
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
    finally:
        if handle is not None:
            os.close(handle)


def _new_file(path: Path) -> int:
    """Creates an empty file, in place of one or a link, locked against `sweep_parts` until it is closed."""
    while True:
        path.unlink(missing_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        if _claimed(handle, path):
            return handle


def _claimed(handle: int, path: Path) -> bool:
    """Locks a new file or folder, or closes it if it was swept away before it was locked."""
    with suppress(OSError):  # some file systems have no locks
        fcntl.flock(handle, fcntl.LOCK_EX)
    there = _is_at(handle, path)
    if not there:
        os.close(handle)
    return there


def full_disk(error: BaseException) -> str:
    """`the disk is full (...)` for an error of FULL, also inside an error of a library. Otherwise empty."""
    number = _full(error)
    return f"the disk is full ({os.strerror(number)})" if number else ""


def _full(error: BaseException | None) -> int | None:
    """The number of FULL that an error, or one of its causes, is about."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in FULL:
            return error.errno
        for number in FULL:  # libraries in other languages give only a text
            if os.strerror(number) in str(error) or f"os error {number})" in str(error):
                return number
        error = error.__cause__ or error.__context__
    return None


def open_own(path: Path, flags: int) -> int:
    """`os.open` for a file that only kdrun writes, created with mode 0666 minus the umask. Raises KdrunError
    for a link, which could lead elsewhere, for a pipe or a device, which could have no end, and OSError.
    """
    try:
        handle = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, 0o666)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise KdrunError(str(path), None, "is a link, which kdrun does not write to; remove it") from error
    mode = os.fstat(handle).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        os.close(handle)
        raise KdrunError(str(path), None, "is a pipe or a device, not a file of kdrun; remove it")
    return handle


def append_text(path: Path, text: str) -> None:
    """Appends to a file, but not through a link."""
    handle = open_own(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    with os.fdopen(handle, "a", encoding="utf-8") as file:
        file.write(text)


def write_text(path: Path, text: str) -> None:
    """Writes a text, or leaves the old content. Letters that the locale cannot read become typed bytes."""
    write_whole(
        path, lambda temporary: temporary.write_text(text, encoding="utf-8", errors="surrogateescape")
    )


def write_json(path: Path, content: Any) -> None:
    """Writes JSON, or leaves the old content if that fails."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """The content of a JSON file. Raises OSError or ValueError."""
    if path.exists() and not path.is_file():
        raise OSError("no file: a pipe would be waited for")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except RecursionError:
        raise ValueError("its lists are nested too deeply") from None


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
    """Locks the folder for this process. The kernel unlocks it when the process ends, however it ends.
    waiting: called once with the holder (`process 4711 on host`) if another process has the lock.
    """
    handle = _lock(folder / LOCK, fcntl.LOCK_EX, waiting)
    try:
        with suppress(OSError):  # a full disk: only the holder's name is lost
            os.ftruncate(handle, 0)
            os.pwrite(handle, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
        yield
    finally:
        os.close(handle)


def holder(folder: Path) -> str:
    """Who has locked the folder, `process 4711 on host`; empty if nobody has, or it cannot be told."""
    with suppress(OSError, KdrunError):
        handle = open_own(folder / LOCK, os.O_RDWR)
        try:
            if not try_lock(handle):
                return _name_in(handle)
        finally:
            os.close(handle)
    return ""


@contextmanager
def held(folders: Iterable[Path]) -> Iterator[None]:
    """Keeps folders from being removed within the block, by `remove` and `unheld`; any number of processes
    can. A missing folder is created, and removed after the block if it is empty. A folder that cannot be held
    (read-only) is skipped. Raises OSError if the disk is too full to create a folder.
    """
    with ExitStack() as holding:
        for folder in sorted(set(folders)):
            try:
                holding.callback(_let_go, folder, _lock(folder / HELD, fcntl.LOCK_SH))
            except OSError as error:
                if error.errno in FULL and not folder.is_dir():
                    raise
        yield


@contextmanager
def unheld(folder: Path, more: Iterable[Path] = ()) -> Iterator[bool]:
    """Whether no process holds or locks a folder or one of `more`. None can do so within the block."""
    handles: list[int] = []
    try:
        yield all(_ours(each / name, handles) for each in (folder, *more) for name in (HELD, LOCK))
    finally:
        for handle in handles:
            os.close(handle)


def _ours(path: Path, handles: list[int]) -> bool:
    """Locks a file, if it exists, and keeps it open in `handles`. False if another process has it."""
    try:
        handles.append(open_own(path, os.O_RDONLY))
        return try_lock(handles[-1], fcntl.LOCK_EX)
    except FileNotFoundError:
        return True
    except (OSError, KdrunError):  # a lock that cannot be read could be held
        return False


def remove(folder: Path, more: Iterable[Path] = ()) -> bool:
    """Removes a folder. False if a process holds it or one of `more`. A process that starts meanwhile waits
    for the lock, then makes the folder anew.
    """
    with suppress(OSError):
        os.close(open_own(folder / HELD, os.O_RDWR | os.O_CREAT))
    with unheld(folder, more) as free:
        if free:
            shutil.rmtree(folder)
        return free


def _lock(path: Path, how: int, waiting: Callable[[str], None] = lambda holder: None) -> int:
    """Opens and locks a file. Creates it again if another process removes it meanwhile."""
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            handle = _open_lock(path)
        except FileNotFoundError:  # the folder was removed just now
            continue
        try:
            if not try_lock(handle, how):
                waiting(_name_in(handle))
                fcntl.flock(handle, how)
            if _is_at(handle, path):
                return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def _name_in(handle: int) -> str:
    """The holder's name in a file that is locked."""
    return os.pread(handle, 200, 0).decode(errors="replace") or "another process"


def _open_lock(path: Path) -> int:
    """Opens it for writing, or for reading if it belongs to another user."""
    try:
        return open_own(path, os.O_RDWR | os.O_CREAT)
    except PermissionError as refused:
        try:
            return open_own(path, os.O_RDONLY)
        except FileNotFoundError:  # it cannot be created, so `_lock` would try for ever
            raise refused from None


def try_lock(handle: int, how: int = fcntl.LOCK_EX) -> bool:
    """Locks an open file until it is closed. False if another process has locked it."""
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
    """Releases a folder. The last holder removes the lock file, and the folder if it is empty."""
    try:
        if try_lock(handle, fcntl.LOCK_EX) and _is_at(handle, folder / HELD):
            with suppress(OSError):
                (folder / HELD).unlink()
                folder.rmdir()  # only if it is empty
    finally:
        os.close(handle)


def empty(folder: Path) -> None:
    """Removes everything in a folder except its locks and its beat. Raises KdrunError for a link."""
    if folder.is_symlink():
        raise KdrunError(str(folder), None, "is a link, so kdrun does not empty it; remove it")
    for path in folder.iterdir():
        if path.name in (LOCK, HELD, BEAT):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def set_aside(folder: Path, name: str = "") -> list[str]:
    """Renames folders that stand where files of kdrun belong: `model.json` is then `model.json.damaged`, with
    what is in it. name: only this one. Returns a line for each.
    """
    lines = []
    named = [folder / name] if name else [path for path in folder.glob("*.*") if path.suffix in OURS]
    for path in named:
        if path.is_dir() and not path.is_symlink():
            places = (path.with_name(f"{path.name}.damaged{number or ''}") for number in count())
            kept = path.rename(next(place for place in places if not os.path.lexists(place)))
            lines.append(f"{path}: is a folder; kept as {kept.name}")
    return lines


@contextmanager
def aside(folder: Path) -> Iterator[Path]:
    """A temporary folder in a folder, removed after the block; if the process is killed, by `sweep_parts`."""
    while True:
        place = Path(tempfile.mkdtemp(prefix=".aside-", suffix=".part", dir=folder))
        with suppress(FileNotFoundError):  # swept away before it was locked
            handle = os.open(place, os.O_RDONLY | os.O_CLOEXEC)
            if _claimed(handle, place):
                break
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)
        os.close(handle)


def sweep_parts(folder: Path, name: str = "") -> None:
    """Removes the half-written files and temporary folders of killed processes. Those that another process
    writes stay. name: only those of the file of that name.
    """
    for path in folder.glob(f".{escape(name)}.*.part" if name else ".*.part"):
        with suppress(OSError, KdrunError):
            handle = open_own(path, os.O_RDONLY)
            try:
                if try_lock(handle):
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
            finally:
                os.close(handle)
