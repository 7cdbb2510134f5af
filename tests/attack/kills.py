"""Real processes that are killed at drawn moments: the same command goes on, and ends with the same bits."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any, NamedTuple

from tests.attack.files import RUN, weights
from tests.attack.judged import WAIT, Ended

STATES = ("recipe.teacher.epochs=2", "recipe.student.epochs=3", "checkpoint.seconds=0")
SCENES: dict[str, tuple[str, ...]] = {
    "a run": STATES,
    "a sweep": ("-m", "temperature=1,4", "runtime.jobs=1", *STATES),
    "a sweep in two processes": ("-m", "temperature=1,4", "runtime.jobs=2", *STATES),
    "a batched sweep": (
        *("-m", "seed=0,1", "temperature=1,4", "control=false", "recipe.student.batch=6"),
        *("recipe.teacher.epochs=2", "recipe.student.epochs=4", "checkpoint.seconds=0.05", "runtime.jobs=1"),
    ),
}

MOST = 3
"""Kills of one command before it may end."""

SIGNALS = (*[signal.SIGKILL] * 5, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
ENDS = (0, 130, -signal.SIGKILL, -signal.SIGTERM, -signal.SIGHUP)
"""Exit statuses of killed commands; 0 if they were faster."""

CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "fcntl.flock")
"""What Python calls the events that change a folder; `open` with a mode that writes is one too."""

TEMPORARY = ("*.part", ".writable*", "state.pt", "group.json")
TIMES = ("seconds",)
PARTS = ("name", "epochs", "best_epoch", "last", "val_best")


class Whole(NamedTuple):
    """What a command leaves that nobody kills. changes: how often it changed a file. seconds: its time."""

    results: Mapping[str, Any]
    changes: int
    seconds: float


class Kills:
    """Scenes, each done once without a kill."""

    def __init__(self, home: Path) -> None:
        self.home, self.whole = home, dict[str, Whole]()
        home.mkdir(parents=True, exist_ok=True)
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(["tests.warm"])

    def attacked(self, draw: random.Random, name: str = "") -> tuple[str, list[Ended], list[str]]:
        """What was done, how the command ended at last, and what is wrong with what it left.

        name: one of SCENES; by default drawn.
        """
        name = name or draw.choice(list(SCENES))
        whole = self._whole(name)
        folder = self._empty("attacked")
        moments, wrong = [], []
        for _ in range(draw.randint(1, MOST)):
            moment, end = self._kill(name, folder, whole, draw)
            moments.append(moment)
            if "Traceback" in end.err or end.status not in ENDS:
                wrong.append(f"killed {moment}, it ends with {end.status}: {end.err.strip()[-300:]}")
            if end.status == 0:
                break
        end = self._done(name, folder)
        wrong += _left(folder)
        if end.status == 0:
            wrong += _differences(whole.results, _results(folder))
        else:
            wrong.append(f"the same command does not continue: {end.err.strip()[-300:]}")
        return f"{name}, killed {', '.join(moments)}", [end], wrong

    def _whole(self, name: str) -> Whole:
        if name not in self.whole:
            folder, changes = self._empty("whole"), self.home / "changes"
            self._done(name, folder)  # data that is decoded once
            folder, began = self._empty("whole"), time.monotonic()
            end = self._done(name, folder, changes)
            assert end.status == 0, end.err
            self.whole[name] = Whole(_results(folder), int(changes.read_text()), time.monotonic() - began)
        return self.whole[name]

    def _empty(self, name: str) -> Path:
        shutil.rmtree(self.home / name, ignore_errors=True)
        return self.home / name

    def _kill(self, name: str, folder: Path, whole: Whole, draw: random.Random) -> tuple[str, Ended]:
        """Starts the command and kills it, just before a drawn change of a file or after a drawn time."""
        if draw.random() < 0.6:
            last = draw.randint(1, whole.changes)
            process = self._started(name, folder, last=last)
            moment = f"before change {last}"
        else:
            seconds, number = draw.uniform(0, whole.seconds), draw.choice(SIGNALS)
            process = self._started(name, folder)
            process.join(seconds)
            moment = f"by {number.name} after {seconds:.2f} s"
            if process.is_alive():
                os.kill(process.pid or 0, number)
        return moment, self._end(process)

    def _done(self, name: str, folder: Path, changes: Path | None = None) -> Ended:
        process = self._started(name, folder, changes)
        return self._end(process)

    def _end(self, process: ForkServerProcess) -> Ended:
        """Waits for the end of a process."""
        process.join(WAIT)
        if process.is_alive():
            process.kill()
            process.join()
        out, err = ((self.home / name).read_text(errors="replace") for name in ("out", "err"))
        return Ended(("kdrun",), process.exitcode, out, err)

    def _started(
        self, name: str, folder: Path, changes: Path | None = None, last: int = 0
    ) -> ForkServerProcess:
        words = [*RUN, *SCENES[name], f"outputs_dir={folder}", f"data_dir={self.home / 'data'}"]
        process = self.context.Process(target=act, args=(words, self.home, changes, last))
        process.start()
        return process


def act(words: Sequence[str], home: Path, changes: Path | None, last: int) -> None:
    """A process: runs a command, and kills itself just before change number `last`, if there is one.

    changes: a file for the number of changes.
    """
    from kdrun.cli import main

    for stream, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(home / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
    sys.stdout, sys.stderr = (os.fdopen(handle, "w", closefd=False) for handle in (1, 2))
    count = _counted(last)
    status = main(list(words))
    if changes:
        changes.write_text(str(count()))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _counted(last: int) -> Callable[[], int]:
    """Counts the changes of files in this process from now on."""
    number = 0

    def seen(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal number
        writes = (
            event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        )
        if event in CHANGES or writes:
            number += 1
            if number == last:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(seen)
    return lambda: number


def _results(folder: Path) -> dict[str, Any]:
    """All that must be the same, by name: weights, rows of metrics without times, figures of models."""
    results: dict[str, Any] = dict(weights(folder))
    for path in sorted(folder.glob("*/*/metrics.jsonl")):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        name = path.relative_to(folder).as_posix()
        results[name] = [{key: row[key] for key in row if key not in TIMES} for row in rows]
    for path in sorted(folder.glob("runs/*/report.json")):
        report = json.loads(path.read_text())
        figures = {role: [model.get(part) for part in PARTS] for role, model in report["models"].items()}
        results[path.relative_to(folder).as_posix()] = [figures, report.get("comparison")]
    return results


def _differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    if missing := before.keys() ^ after.keys():
        return [f"files that only one has: {', '.join(sorted(missing))}"]
    return [f"{name} differs" for name in before if before[name] != after[name]]


def _left(folder: Path) -> list[str]:
    """Files that a finished command should have removed."""
    paths = (path for pattern in TEMPORARY for path in folder.rglob(pattern))
    return [f"left behind: {path.relative_to(folder)}" for path in sorted(paths)]
