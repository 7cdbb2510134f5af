"""What a folder of outputs holds: how large each thing is, who uses it, and what could go."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from kdrun.artefacts import LOCK, read_json
from kdrun.errors import KdrunError

KINDS = ("teacher", "control", "run", "table", "sweep", "record")
RECORDS = ("tensorboard", "wandb", "mlflow")
"""Folders that loggers fill."""

MARKS = {"teacher": ("model.json",), "control": ("model.json",), "run": ("student.json", "report.json")}
"""Files of which one says that the folder is finished."""

SHARED = ("data", "views", "normalised", "resize", "model", "recipe", "seed", "precision")
"""What of a student's key is its control's."""


class Kept(NamedTuple):
    """kind: one of KINDS. bytes: on the disk; without the tables in it. state: finished, unfinished or
    in use (another process holds it). users: names of the runs that use a model, or learned from the student
    of a run.
    """

    kind: str
    path: Path
    bytes: int
    state: str
    users: tuple[str, ...] = ()


def kept(outputs: Path) -> list[Kept]:
    """All that a folder holds, by kind, the largest first. Raises KdrunError for a folder that is none of
    kdrun's.
    """
    if not outputs.is_dir():
        raise KdrunError(str(outputs), None, "no such folder")
    known = ("models", "runs", "sweeps", *RECORDS)
    if not any((outputs / name).is_dir() for name in known):
        raise KdrunError(str(outputs), None, f"holds nothing of kdrun (none of {', '.join(known)})")
    runs = list(folders(outputs / "runs"))
    used = _used(runs)
    models = list(folders(outputs / "models"))
    found = [_kept("run", path, _users("run", path, used)) for path in runs]
    for path in models:
        kind = "control" if path.name.startswith("control-") else "teacher"
        found.append(_kept(kind, path, _users(kind, path, used)))
    found += [_kept("table", table) for path in (*models, *runs) for table in folders(path / "tables")]
    found += [_kept("sweep", path) for path in folders(outputs / "sweeps")]
    found += [_kept("record", outputs / name) for name in RECORDS if (outputs / name).is_dir()]
    return sorted(found, key=lambda each: (KINDS.index(each.kind), -each.bytes, each.path))


def prunable(found: Iterable[Kept]) -> list[tuple[Kept, str]]:
    """What could go, and why. While a run is at work, models and tables stay: it may need them."""
    everything = list(found)
    at_work = any(each.state == "in use" for each in everything)
    reasons = ((each, _reason(each, at_work)) for each in everything)
    return [(each, reason) for each, reason in reasons if reason]


@contextmanager
def held(folder: Path) -> Iterator[bool]:
    """Holds the locks of a folder and of the tables in it; False where another process holds one."""
    handles: list[int] = []
    try:
        free = True
        for lock in sorted({folder / LOCK, *folder.glob(f"tables/*/{LOCK}")}):
            if lock.exists():
                handles.append(os.open(lock, os.O_RDONLY))
                free = free and _take(handles[-1])
        yield free
    finally:
        for handle in handles:
            os.close(handle)


def folders(root: Path) -> Iterator[Path]:
    """The folders in a folder that may not be there; links are left alone."""
    if root.is_dir():
        yield from sorted(path for path in root.iterdir() if path.is_dir() and not path.is_symlink())


def size(folder: Path, without: str = "") -> int:
    """Bytes on the disk of all files; what sparse files leave out does not count."""
    total = 0
    for place, inside, names in os.walk(folder):
        if without in inside and Path(place) == folder:
            inside.remove(without)
        for name in names:
            try:
                total += os.lstat(os.path.join(place, name)).st_blocks * 512
            except OSError:  # removed since
                continue
    return total


def _kept(kind: str, path: Path, users: tuple[str, ...] = ()) -> Kept:
    marks = MARKS.get(kind)
    with held(path) as free:
        done = marks is None or any((path / mark).is_file() for mark in marks)
    state = "in use" if not free else "finished" if done else "unfinished"
    return Kept(kind, path, size(path, without="tables"), state, users)


def _reason(each: Kept, at_work: bool) -> str:
    if each.state == "in use":
        return ""
    if each.state == "unfinished":
        return "unfinished"
    if at_work:
        return ""
    if each.kind == "table":
        return "can be made anew"
    return "used by no run" if each.kind in ("teacher", "control") and not each.users else ""


class _Use(NamedTuple):
    """A run, the folders of models that its report names, and the key of its student."""

    name: str
    folders: frozenset[str]
    key: Mapping[str, Any]


def _used(runs: Iterable[Path]) -> list[_Use]:
    found = []
    for run in runs:
        named = _read(run / "report.json").get("folders", {})
        key = _read(run / "student.json").get("key", {})
        found.append(_Use(run.name, frozenset(named.values()), key))
    return found


def _users(kind: str, path: Path, used: Iterable[_Use]) -> tuple[str, ...]:
    """Runs that name the folder in their report, or whose student was made with it or beside it."""
    record = _read(path / ("student.json" if kind == "run" else "model.json"))
    key, mark = record.get("key", {}), record.get("fingerprint")

    def uses(run: _Use) -> bool:
        if path.name in run.folders:
            return True
        if kind != "control":
            return bool(mark) and run.key.get("teacher", {}).get("key") == mark
        return bool(key) and all(run.key.get(name) == key.get(name) for name in SHARED)

    return tuple(run.name for run in used if uses(run) and run.name != path.name)


def _read(file: Path) -> dict[str, Any]:
    """A JSON object; empty where the file is not there or is damaged."""
    try:
        content = read_json(file)
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _take(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
