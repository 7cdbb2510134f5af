"""What a worker of any engine does: it plans its trainings again, makes them, and tells how far it is. One on
another machine is sent an errand, and sends back reports in a file.
"""

from __future__ import annotations

import json
import math
import os
import socket
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from kdrun import artefacts, beats
from kdrun.config.schema import Run
from kdrun.errors import KdrunError
from kdrun.plan.plan import make_plan
from kdrun.progress.screen import Said
from kdrun.progress.watchers import Observers, Told
from kdrun.stages.engines.engine import Failures, Work, one_by_one
from kdrun.stages.groups import Group
from kdrun.stages.noted import GroupThreads
from kdrun.stages.saved import finished, started

PAUSE = 0.25
"""Seconds between two reports of a process on this machine."""

REPORT = 1.0
"""Seconds between two reports of a worker on another machine."""

Wanted = Sequence[tuple[Run, Path]]
"""Trainings by the run that plans each, and its folder: plain values, which can be pickled."""

Send = Callable[[tuple[Any, ...]], None]


class Telling:
    """Sends on what is told: the last step and epoch at once, other things every `pause` seconds."""

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


def wanted(part: GroupThreads) -> Wanted:
    """What a worker needs to make a group, with the group's threads."""
    asked = [(training.ground.planned, training.folder) for training in part.group]
    if part.threads is None:
        return asked
    return [(replace(run, threads=part.threads) if run.threads == "auto" else run, at) for run, at in asked]


def made(
    work: Work, asked: Wanted, tell: Telling, say: Callable[[str], None] = lambda text: None
) -> Failures:
    """Plans and makes a group. The errors can be pickled. say: prints what is said."""
    observers = Observers(Said(say), told=Told(tell))
    try:
        group = [next(each for each in make_plan(run).every if each.folder == at) for run, at in asked]
        failures = one_by_one([group], work, observers)
    except Exception as error:
        failures = {folder: error for _, folder in asked}
    return {folder: _sendable(error) for folder, error in failures.items()}


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


def python_path() -> str:
    """The entries of `sys.path`, for a process that is to find the same modules, the user's too."""
    return os.pathsep.join(os.path.abspath(entry or ".") for entry in sys.path)


@dataclass
class Errand:
    """A group as a worker gets it; can be pickled, and called any number of times: it continues.

    path: of Python. place: the folder that relative paths are in. progress: the file for reports.
    started: when the command began.
    """

    work: Work
    asked: Wanted
    progress: Path
    path: list[str] = field(default_factory=lambda: list(sys.path))
    place: str = field(default_factory=os.getcwd)
    started: float = field(default_factory=started)

    def __call__(self) -> Failures:
        """The errors of the trainings that failed."""
        sys.path[:] = [*self.path, *(entry for entry in sys.path if entry not in self.path)]
        os.environ[artefacts.STARTED] = str(self.started)
        os.environ[beats.WORKER] = self.called()
        try:
            os.chdir(self.place)
            artefacts.append_text(self.progress, "")
        except OSError as error:
            problem = f"{socket.gethostname()} does not see {error.filename} ({error.strerror})"
            lost = KdrunError("engine", None, f"{problem}; all machines must share it")
            return {folder: lost for _, folder in self.asked}
        tell = _Printed(self._send, REPORT)
        tell("state", "RUNNING")
        return made(self.work, self.asked, tell, tell.say)

    def _send(self, report: tuple[Any, ...]) -> None:
        artefacts.append_text(self.progress, json.dumps(report) + "\n")

    def called(self) -> str:
        """The worker's name in its own process."""
        return f"process {os.getpid()}"


class _Printed(Telling):
    """Reports, and prints each epoch and what is said: the log of a worker."""

    def __call__(self, kind: str, *what: Any) -> None:
        if kind == "epoch":
            print(time.strftime("%H:%M:%S"), what[0], flush=True)
        super().__call__(kind, *what)

    def say(self, text: str) -> None:
        print(text, flush=True)
        self("state", " ".join(text.split()))
