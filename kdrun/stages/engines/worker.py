"""What a worker of any engine does: it plans its trainings again, makes them, and tells how far it is."""

from __future__ import annotations

import math
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from kdrun.config.schema import Run
from kdrun.errors import KdrunError
from kdrun.plan.plan import make_plan
from kdrun.plan.training import Training
from kdrun.progress.overall import Reported
from kdrun.progress.watchers import Observers
from kdrun.stages.engines.engine import Failures, Work
from kdrun.stages.engines.serial import one_by_one
from kdrun.stages.groups import Group
from kdrun.stages.noted import Part
from kdrun.stages.saved import finished

PAUSE = 0.25
"""Seconds between two reports of a process on this machine."""

Wanted = Sequence[tuple[Run, Path]]
"""Trainings by the run that plans each, and its folder: plain values, which can be pickled."""

Send = Callable[[tuple[Any, ...]], None]


class Telling:
    """Sends a screen's calls on: the last step and epoch at once, others every `pause` seconds."""

    def __init__(self, send: Send, pause: float = PAUSE) -> None:
        self.send, self.pause, self.last, self.steps = send, pause, 0.0, 0
        self.waiting: dict[str, tuple[Any, ...]] = {}

    def __call__(self, kind: str, *what: Any) -> None:
        if kind == "begin":
            self.steps, self.last = what[0] * what[1], 0.0
        self.waiting.pop(kind, None)
        self.waiting[kind] = what  # now the last in the order
        ended = self.waiting.get("step") == (self.steps,) or self.last == math.inf
        if kind == "begin" or ended or time.monotonic() - self.last >= self.pause:
            for name, about in self.waiting.items():
                self.send((name, *about))
            self.waiting.clear()
            self.last = math.inf if ended else time.monotonic()


def wanted(part: Part) -> Wanted:
    """What a worker needs to make a group, with the group's threads."""
    return [
        (_with_threads(training.ground.planned, part.threads), training.folder) for training in part.group
    ]


def _with_threads(run: Run, threads: int | None) -> Run:
    return run if run.threads != "auto" or threads is None else replace(run, threads=threads)


def made(work: Work, asked: Wanted, tell: Telling, say: Callable[[str], None] | None = None) -> Failures:
    """Plans and makes a group. The errors can be pickled. say: prints what is said."""
    observers = Observers(Reported(tell, say))
    try:
        group = [_planned(run, folder) for run, folder in asked]
        failures = one_by_one([group], work, observers)
    except Exception as error:
        failures = {folder: error for _, folder in asked}
    return {folder: _sendable(error) for folder, error in failures.items()}


def _planned(run: Run, folder: Path) -> Training:
    return next(training for training in make_plan(run).every if training.folder == folder)


def _sendable(error: Exception) -> Exception:
    """The error in a form that can be pickled."""
    if isinstance(error, KdrunError):
        return error
    text = "".join(traceback.format_exception(error)).rstrip()
    return RuntimeError(f"in a process of its own:\n{text}")


def killed(group: Group, key: str, problem: str) -> Failures:
    """The error of each unfinished training of a worker that ended without a word."""
    error = KdrunError(key, None, problem)
    error.while_running = True
    return {training.folder: error for training in group if finished(training) is None}
