"""What a folder of outputs contains: the size of each folder, the runs that use it, what can be removed."""

from __future__ import annotations

import errno
import os
import re
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

from kdrun.artefacts import HELD, LOCK, unheld
from kdrun.errors import KdrunError
from kdrun.paths import no_folder
from kdrun.records import MARKS, NOTE, PLAN, Damaged, Mark, Planned, read_fields, read_own

MODELS = ("teacher", "control", "int8 model")
KINDS = (*MODELS, "run", "table", "sweep", "search", "published table", "record")
"""int8 model: trained for 8 bits. table: a teacher's cached answers. published table: its cells and its page.
record: a logger's files.
"""

RECORDS = ("tensorboard", "wandb", "mlflow")
"""Folders that loggers fill."""

ROOMS = ("models", "runs", "sweeps", "searches")
"""Folders with a folder for each model, run, sweep or search. `tables` is another, but models have it too."""

AT_WORK = ("sweep", "search", "published table")
"""Kinds that need models and tables while they are in use."""

NAME = re.compile(r".+-[0-9a-f]{12}")
"""Folders of models and runs end in a fingerprint."""


class KeptFolder(NamedTuple):
    """kind: one of KINDS. bytes: on the disk, without the tables in it. state: finished; in use (another
    process holds its lock); can be continued (a training was interrupted); unfinished; cannot be read (it is
    another user's). users: names of the runs that use a model, or learned from the student of a run. age:
    seconds since the interruption.
    """

    kind: str
    path: Path
    bytes: int
    state: str
    users: tuple[str, ...] = ()
    age: float | None = None


class OutputsFolder(NamedTuple):
    """kept: kdrun's own, by kind, the largest first. foreign: how many other folders lie between them.
    damaged: a line for each file that cannot be read. sweeping: whether a sweep, a published table or a
    search is at work.
    """

    kept: list[KeptFolder]
    foreign: int
    damaged: list[str]
    sweeping: bool = False


class Marked(NamedTuple):
    """What the small files of a model's or a run's folder say.

    ours: whether one of them is kdrun's. finished: whether its training is finished. uses: the names of the
    folders that a run's plan and report name. teacher: the key of the teacher in a student's mark. damaged: a
    line for each file that cannot be read. unread: whether one of them may not be read by this user.
    """

    path: Path
    ours: bool
    finished: bool
    uses: frozenset[str]
    teacher: str | None
    damaged: tuple[str, ...] = ()
    unread: bool = False


class Users:
    """The runs that use each folder.

    A run of a version that wrote no plan may not be evaluated yet. It uses the teacher that its student's
    mark names, and any control could be its own. What a run uses that may not be read is unknown: it could be
    anything.
    """

    def __init__(self, runs: Iterable[Marked]) -> None:
        self.by_name: dict[str, set[str]] = defaultdict(set)
        self.by_teacher: dict[str | None, set[str]] = defaultdict(set)
        self.silent: set[str] = set()
        self.unread: set[str] = set()
        for run in runs:
            if run.unread:
                self.unread.add(run.path.name)
            for name in run.uses:
                self.by_name[name].add(run.path.name)
            if run.finished and not run.uses:
                self.silent.add(run.path.name)
                self.by_teacher[run.teacher].add(run.path.name)

    def of(self, name: str, kind: str) -> tuple[str, ...]:
        """The names of the runs that use a folder of this kind."""
        older = self.silent if kind == "control" else self.by_teacher[name.rpartition("-")[2]]
        return tuple(sorted((self.by_name[name] | older | self.unread) - {name}))


class _Written(TypedDict):
    kdrun: str
    models: dict[str, Any]


class _Report(_Written, total=False):
    folders: dict[str, str]


class _Table(TypedDict):
    format: int
    key: str
    codes: int


class _Call(TypedDict):
    command: str
    jobs: list[Any]


def kept(outputs: Path) -> OutputsFolder:
    """All that a folder of outputs contains. Raises KdrunError for a folder without anything of kdrun."""
    if not outputs.is_dir():
        raise KdrunError(str(outputs), None, no_folder(outputs) or "no such folder")
    known = (*ROOMS, "tables", *RECORDS)
    if not any((outputs / name).is_dir() for name in known):
        raise KdrunError(str(outputs), None, f"holds nothing of kdrun (none of {', '.join(known)})")
    every = [_marked(path) for room in ("models", "runs") for path in folders(outputs / room)]
    ours = [each for each in every if is_ours(each)]
    rows = [*_models(ours), *_groups(outputs)]
    order = sorted(rows, key=lambda each: (KINDS.index(each.kind), -each.bytes, each.path))
    sweeping = any(each.kind in AT_WORK and each.state == "in use" for each in rows)
    return OutputsFolder(
        order, len(every) - len(ours), [line for each in ours for line in each.damaged], sweeping
    )


def _models(ours: Sequence[Marked]) -> Iterator[KeptFolder]:
    """Models, runs, and the tables of teachers' answers in their folders."""
    users = Users(each for each in ours if each.path.parent.name == "runs")
    yield from (_kept(each, users) for each in ours)
    for path in (path for each in ours if not each.unread for path in folders(each.path / "tables")):
        if _reads(path / "table.json", _Table) or _locked_once(path):
            yield KeptFolder("table", path, size(path), _state(path, True))


def _groups(outputs: Path) -> Iterator[KeptFolder]:
    """Sweeps, searches, published tables, and the folders of loggers."""
    rooms = (("sweep", "sweeps"), ("search", "searches"))
    every = ((kind, path) for kind, room in rooms for path in folders(outputs / room))
    groups = [(kind, path) for kind, path in every if (path / f"{kind}.json").exists()]
    tables = (path for path in folders(outputs / "tables") if is_published(path))
    groups += [("published table", path) for path in tables]
    yield from (KeptFolder(kind, path, size(path), _state(path, True)) for kind, path in groups)
    for path in (outputs / name for name in RECORDS):
        if path.is_dir():
            yield KeptFolder("record", path, size(path), "finished")


def prunable(outputs: OutputsFolder) -> list[tuple[KeptFolder, str]]:
    """What can be removed, and why. While a sweep or a search is at work, all stays.

    A training that can be continued stays: it may have taken hours. So does what cannot be read.
    """
    reasons = ((each, _reason(each, outputs.sweeping)) for each in outputs.kept)
    return [(each, reason) for each, reason in reasons if reason]


def named(paths: Iterable[Path]) -> OutputsFolder:
    """The given folders. Raises KdrunError for one that is not kdrun's."""
    roots: dict[Path, OutputsFolder] = {}
    known: dict[Path, KeptFolder] = {}
    rows: dict[Path, KeptFolder] = {}
    for path in paths:
        place = path.resolve()
        root = _root(place)
        if root not in roots:
            with suppress(KdrunError):  # else the path itself is named below
                roots[root] = kept(root)
                known |= {each.path: each for each in roots[root].kept}
        if place not in known:
            problem = "is not a folder of a model, a run, a sweep, a search or a table of kdrun"
            raise KdrunError(str(path), None, problem)
        rows[place] = known[place]
    sweeping = any(outputs.sweeping for outputs in roots.values())
    return OutputsFolder(list(rows.values()), 0, [], sweeping)


def _root(path: Path) -> Path:
    """The folder of outputs that a folder is in."""
    of_model = path.parent.name == "tables" and not is_published(path)
    return path.parent.parent.parent.parent if of_model else path.parent.parent


def holders(each: KeptFolder) -> list[Path]:
    """Other folders whose locks keep this one from being removed."""
    if each.kind == "table":
        return [each.path.parent.parent]
    return list(folders(each.path / "tables"))


def folders(root: Path) -> Iterator[Path]:
    """The folders in a folder; none if it does not exist. Links do not count."""
    try:
        with os.scandir(root) as entries:
            names = sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
    except (FileNotFoundError, NotADirectoryError):
        return
    yield from (root / name for name in names)


def size(folder: Path, without: str = "") -> int:
    """Bytes on the disk of all files; holes of sparse files do not count."""
    total = 0
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    total += size(Path(entry.path)) if entry.name != without else 0
                else:
                    total += entry.stat(follow_symlinks=False).st_blocks * 512
    except OSError:  # removed meanwhile, or unreadable
        pass
    return total


def is_ours(folder: Marked) -> bool:
    """Whether a folder contains a file that only kdrun writes. Other tools have `runs` and `models` too."""
    if folder.ours:
        return True
    path = folder.path
    if _locked_once(path) or any(_reads(each / "table.json", _Table) for each in folders(path / "tables")):
        return True
    return bool(NAME.fullmatch(path.name)) and any((path / name).exists() for name in (LOCK, HELD, NOTE))


def is_published(path: Path) -> bool:
    """Whether it is the folder of a published table, which has a record of each call that filled it."""
    return any(_reads(call, _Call) for call in sorted(path.glob("calls/*.json")))


def _marked(path: Path) -> Marked:
    """What the small files of a folder say. Reports are large, so none stays in memory."""
    damaged: list[str] = []
    unread: list[str] = []
    if not os.access(path, os.R_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids):
        line = f"{path}: cannot be read ({os.strerror(errno.EACCES)})"
        return Marked(path, bool(NAME.fullmatch(path.name)), False, frozenset(), None, (line,), True)

    def content(name: str, wanted: Any) -> Any:
        try:
            return read_fields(path / name, wanted)
        except OSError as error:
            unread.append(f"{path / name}: cannot be read ({error.strerror})")
        except Damaged as error:
            damaged.append(str(error))
        return None

    mark: Mark | None = next(filter(None, [content(name, Mark) for name in MARKS]), None)
    run = path.parent.name == "runs"
    report, plan = (content("report.json", _Report), content(PLAN, Planned)) if run else (None, None)
    uses = {each["folder"].rpartition("/")[2] for each in (plan["trainings"] if plan else ())}
    uses |= set((report or {}).get("folders", {}).values())
    teacher = mark["key"].get("teacher") if mark else None
    key = str(teacher.get("key")) if isinstance(teacher, dict) else None
    finished = bool(mark or report)
    lines = (*damaged, *unread)
    return Marked(path, finished or bool(plan), finished, frozenset(uses), key, lines, bool(unread))


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


def _kept(folder: Marked, users: Users) -> KeptFolder:
    path = folder.path
    run = path.parent.name == "runs"
    named = {"control": "control", "int8": "int8 model"}
    kind = "run" if run else named.get(path.name.partition("-")[0], "teacher")
    if folder.unread:
        return KeptFolder(
            kind, path, size(path, without="tables"), "cannot be read", users.of(path.name, kind)
        )
    loaded = not run and not (path / "log.txt").exists() and any(folders(path / "tables"))
    state, age = _state(path, folder.finished or loaded), None
    if state == "unfinished":
        with suppress(FileNotFoundError):
            age = max(0.0, time.time() - (path / "state.pt").lstat().st_mtime)
            state = "can be continued"
    return KeptFolder(kind, path, size(path, without="tables"), state, users.of(path.name, kind), age)


def _state(path: Path, done: bool) -> str:
    with unheld(path, folders(path / "tables")) as free:
        return "in use" if not free else "finished" if done else "unfinished"


def _reason(each: KeptFolder, sweeping: bool) -> str:
    if sweeping or each.state not in ("unfinished", "finished"):
        return ""
    if each.state == "unfinished":
        return "unfinished"
    if each.kind == "table":
        return "can be made anew"
    return "used by no run" if each.kind in MODELS and not each.users else ""
