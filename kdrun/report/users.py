"""The runs that use a folder of outputs, because their plans or reports name it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple


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
        self.by_name: dict[str, dict[str, None]] = {}
        self.by_teacher: dict[str, dict[str, None]] = {}
        self.silent: dict[str, None] = {}
        self.unread: dict[str, None] = {}
        for run in runs:
            if run.unread:
                self.unread[run.path.name] = None
            for name in run.uses:
                self.by_name.setdefault(name, {})[run.path.name] = None
            if run.finished and not run.uses:
                self.silent[run.path.name] = None
                if run.teacher is not None:
                    self.by_teacher.setdefault(run.teacher, {})[run.path.name] = None

    def of(self, name: str, kind: str) -> tuple[str, ...]:
        """The names of the runs that use a folder of this kind."""
        older = self.silent if kind == "control" else self.by_teacher.get(name.rpartition("-")[2], {})
        return tuple(sorted((self.by_name.get(name, {}) | older | self.unread).keys() - {name}))
