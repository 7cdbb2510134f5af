"""What a folder of outputs holds: how large each thing is, who uses it, and what could go."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

from kdrun.artefacts import HELD, LOCK, unheld
from kdrun.errors import KdrunError
from kdrun.records import MARKS, PLAN, Damaged, Mark, Planned, read_fields, read_own, teachers_of

KINDS = ("teacher", "control", "run", "table", "sweep", "record")
RECORDS = ("tensorboard", "wandb", "mlflow")
"""Folders that loggers fill."""

ROOMS = ("models", "runs", "sweeps")
"""Folders in which kdrun keeps a folder each."""

SHARED = ("data", "views", "normalised", "resize", "model", "recipe", "seed", "precision")
"""What of a student's key is its control's."""

NAME = re.compile(r".+-[0-9a-f]{12}")
"""Folders of models and runs end in a fingerprint."""


class Kept(NamedTuple):
    """kind: one of KINDS. bytes: on the disk; without the tables in it. state: finished; in use, if another
    process holds it; can be continued, if a training was broken off; unfinished. users: names of the runs
    that use a model, or learned from the student of a run. age: seconds since it was broken off.
    """

    kind: str
    path: Path
    bytes: int
    state: str
    users: tuple[str, ...] = ()
    age: float | None = None


class Outputs(NamedTuple):
    """kept: what is kdrun's, by kind, the largest first. foreign: how many folders lie between that are not.
    damaged: what cannot be read, a line each. sweeping: whether a sweep is at work.
    """

    kept: list[Kept]
    foreign: int
    damaged: list[str]
    sweeping: bool = False


class _Written(TypedDict):
    kdrun: str
    models: dict[str, Any]


class _Report(_Written, total=False):
    folders: dict[str, str]


class _Table(TypedDict):
    format: int
    key: str
    codes: int


class _Found(NamedTuple):
    """A folder of a model or a run, with what of its small files can be read."""

    path: Path
    mark: Mark | None
    report: Mapping[str, Any] | None
    plan: Planned | None
    damaged: tuple[str, ...]

    @property
    def key(self) -> Mapping[str, Any]:
        return self.mark["key"] if self.mark else {}


def kept(outputs: Path) -> Outputs:
    """All that a folder holds. Raises KdrunError for a folder that is none of kdrun's."""
    if not outputs.is_dir():
        raise KdrunError(str(outputs), None, "no such folder")
    known = (*ROOMS, *RECORDS)
    if not any((outputs / name).is_dir() for name in known):
        raise KdrunError(str(outputs), None, f"holds nothing of kdrun (none of {', '.join(known)})")
    every = [_found(path) for room in ("models", "runs") for path in folders(outputs / room)]
    ours = [each for each in every if is_ours(each)]
    users = _Users(each for each in ours if each.path.parent.name == "runs")
    rows = [_kept(each, users) for each in ours]
    tables = [path for each in ours for path in folders(each.path / "tables")]
    rows += [_table(path) for path in tables if _reads(path / "table.json", _Table) or _locked_once(path)]
    sweeps = [path for path in folders(outputs / "sweeps") if (path / "sweep.json").exists()]
    rows += [Kept("sweep", path, size(path), _state(path, True)) for path in sweeps]
    rows += [
        Kept("record", outputs / name, size(outputs / name), "finished")
        for name in RECORDS
        if (outputs / name).is_dir()
    ]
    order = sorted(rows, key=lambda each: (KINDS.index(each.kind), -each.bytes, each.path))
    sweeping = any(each.kind == "sweep" and each.state == "in use" for each in rows)
    return Outputs(order, len(every) - len(ours), [line for each in ours for line in each.damaged], sweeping)


def prunable(found: Outputs) -> list[tuple[Kept, str]]:
    """What could go, and why. While a sweep is at work, models and tables stay: it may need them.

    What can be continued stays: hours may be in it.
    """
    reasons = ((each, _reason(each, found.sweeping)) for each in found.kept)
    return [(each, reason) for each, reason in reasons if reason]


def named(paths: Iterable[Path]) -> Outputs:
    """Those of the folders that are named, each one of kdrun's. Raises KdrunError for another."""
    roots: dict[Path, Outputs] = {}
    rows = []
    for path in paths:
        root = path.resolve().parent.parent
        if path.resolve().parent.name == "tables":
            root = root.parent.parent
        if path.resolve() not in (each.path.resolve() for each in roots.setdefault(root, kept(root)).kept):
            raise KdrunError(str(path), None, "is no folder of a model, a run, a table or a sweep of kdrun")
        rows += [each for each in roots[root].kept if each.path.resolve() == path.resolve()]
    return Outputs(rows, 0, [], any(found.sweeping for found in roots.values()))


def holders(each: Kept) -> list[Path]:
    """The folders whose holders keep a thing from being removed, besides those of its own."""
    if each.kind == "table":
        return [each.path.parent.parent]
    return list(folders(each.path / "tables"))


def folders(root: Path) -> Iterator[Path]:
    """The folders in a folder that may not be there; links are left alone."""
    try:
        with os.scandir(root) as entries:
            names = sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
    except (FileNotFoundError, NotADirectoryError):
        return
    yield from (root / name for name in names)


def size(folder: Path, without: str = "") -> int:
    """Bytes on the disk of all files; what sparse files leave out does not count."""
    total = 0
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    total += size(Path(entry.path)) if entry.name != without else 0
                else:
                    total += entry.stat(follow_symlinks=False).st_blocks * 512
    except OSError:  # removed since, or not to be read
        pass
    return total


def is_ours(found: _Found) -> bool:
    """Whether a folder carries something that only kdrun leaves: other tools have folders `runs` and `models`
    too.
    """
    if found.mark or found.report or found.plan:
        return True
    path = found.path
    if _locked_once(path) or any(_reads(each / "table.json", _Table) for each in folders(path / "tables")):
        return True
    return bool(NAME.fullmatch(path.name)) and any((path / name).exists() for name in (LOCK, HELD))


def _found(path: Path) -> _Found:
    damaged: list[str] = []

    def content(name: str, wanted: Any) -> Any:
        try:
            return read_fields(path / name, wanted)
        except OSError as error:
            damaged.append(f"{path / name}: cannot be read ({error.strerror})")
        except Damaged as error:
            damaged.append(str(error))
        return None

    marks = [content(name, Mark) for name in MARKS]
    mark = next(filter(None, marks), None)
    if path.parent.name != "runs":
        return _Found(path, mark, None, None, tuple(damaged))
    return _Found(path, mark, content("report.json", _Report), content(PLAN, Planned), tuple(damaged))


def _locked_once(path: Path) -> bool:
    """Whether its lock is one of kdrun's."""
    try:
        return bool(re.match(r"process \d+ on ", read_own(path / LOCK) or ""))
    except (OSError, KdrunError):
        return False


def _reads(path: Path, wanted: Any) -> bool:
    try:
        return read_fields(path, wanted) is not None
    except (OSError, Damaged):
        return False


def _kept(found: _Found, users: _Users) -> Kept:
    path = found.path
    run = path.parent.name == "runs"
    kind = "run" if run else "control" if path.name.startswith("control-") else "teacher"
    loaded = not run and not (path / "log.txt").exists() and any(folders(path / "tables"))
    state, age = _state(path, bool(found.mark or found.report) or loaded), None
    if state == "unfinished":
        with suppress(FileNotFoundError):
            age = max(0.0, time.time() - (path / "state.pt").lstat().st_mtime)
            state = "can be continued"
    return Kept(kind, path, size(path, without="tables"), state, users.of(found, kind), age)


def _table(path: Path) -> Kept:
    return Kept("table", path, size(path), _state(path, True))


def _state(path: Path, done: bool) -> str:
    with unheld(path, folders(path / "tables")) as free:
        return "in use" if not free else "finished" if done else "unfinished"


def _reason(each: Kept, sweeping: bool) -> str:
    if each.state == "unfinished":
        return "unfinished"
    if each.state != "finished" or sweeping:
        return ""
    if each.kind == "table":
        return "can be made anew"
    return "used by no run" if each.kind in ("teacher", "control") and not each.users else ""


class _Users:
    """Which runs use a folder: they name it in their report or their plan, or their student was made with it
    or beside it.
    """

    def __init__(self, runs: Iterable[_Found]) -> None:
        self.by_folder: dict[str, dict[str, None]] = {}
        self.by_teacher: dict[str, dict[str, None]] = {}
        self.by_control: dict[str, dict[str, None]] = {}
        for run in runs:
            named = list((run.report or {}).get("folders", {}).values())
            named += [
                each["folder"].rpartition("/")[2] for each in (run.plan or {"trainings": []})["trainings"]
            ]
            for folder in named:
                self.by_folder.setdefault(folder, {})[run.path.name] = None
            for teacher in teachers_of(run.key):
                self.by_teacher.setdefault(str(teacher.get("key")), {})[run.path.name] = None
            if run.key:
                self.by_control.setdefault(_shared(run.key), {})[run.path.name] = None

    def of(self, found: _Found, kind: str) -> tuple[str, ...]:
        name = found.path.name
        users = dict(self.by_folder.get(name, {}))
        if kind != "control":
            users |= self.by_teacher.get(name.rpartition("-")[2], {})
        elif found.key:
            users |= self.by_control.get(_shared(found.key), {})
        return tuple(user for user in sorted(users) if user != name)


def _shared(key: Mapping[str, Any]) -> str:
    """What a student and its control have in common, as text."""
    return json.dumps([key.get(name) for name in SHARED], sort_keys=True)
