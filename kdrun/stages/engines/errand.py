"""What a worker on another machine is sent, and what it sends back: an errand, and reports in a file."""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kdrun import artefacts, beats
from kdrun.errors import KdrunError
from kdrun.stages.engines.engine import Failures, Work
from kdrun.stages.engines.worker import Telling, Wanted, made
from kdrun.stages.saved import started

REPORT = 1.0
"""Seconds between two reports."""


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
            send = _Sending(self.progress)
        except OSError as error:
            problem = f"{socket.gethostname()} does not see {error.filename} ({error.strerror})"
            lost = KdrunError("engine", None, f"{problem}; all machines must share it")
            return {folder: lost for _, folder in self.asked}
        tell = _Printed(send, REPORT)
        tell("state", "RUNNING")
        return made(self.work, self.asked, tell, tell.say)

    def called(self) -> str:
        """The worker's name in its own process."""
        return f"process {os.getpid()}"


class _Sending:
    """Appends reports to a file, a line each."""

    def __init__(self, path: Path) -> None:
        self.path = path
        artefacts.append_text(path, "")

    def __call__(self, report: tuple[Any, ...]) -> None:
        artefacts.append_text(self.path, json.dumps(report) + "\n")


class _Printed(Telling):
    """Reports, and prints each epoch and what is said: the log of a worker."""

    def __call__(self, kind: str, *what: Any) -> None:
        if kind == "epoch":
            print(time.strftime("%H:%M:%S"), what[0], flush=True)
        super().__call__(kind, *what)

    def say(self, text: str) -> None:
        print(text, flush=True)
        self("state", " ".join(text.split()))
