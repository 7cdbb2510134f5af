"""Runs trainings: in this process, or in several processes on this machine."""

from __future__ import annotations

import math
import multiprocessing
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

import torch

from kdrun.config.choices import shown_role
from kdrun.config.schema import Run
from kdrun.errors import KdrunError
from kdrun.plan.plan import make_plan
from kdrun.plan.training import Training
from kdrun.progress.overall import Estimate, Followed, Overall, Reported
from kdrun.progress.watchers import Observers
from kdrun.resources import cores
from kdrun.stages.groups import Group, seconds
from kdrun.stages.noted import Part
from kdrun.stages.saved import finished

WORTH_PROCESSES = 60.0
"""Below so many estimated seconds of training, starting processes does not pay."""

PAUSE = 0.25
"""Seconds between two reports of a process."""

VISIBLE = "CUDA_VISIBLE_DEVICES"

Failures = dict[Path, Exception]
"""Errors of trainings by folder."""

Work = Callable[[Group, Observers], None]
"""Trains a group."""


def processes_for(trainings: Sequence[Training]) -> int:
    """The number of processes: `runtime.jobs`, else one per CPU core or per GPU if that pays. At most one per
    training.
    """
    if not trainings:
        return 1
    ground = trainings[0].ground
    wanted = ground.run.runtime.jobs
    if wanted != "auto":
        return min(int(wanted), len(trainings))
    if seconds(trainings) <= WORTH_PROCESSES:
        return 1
    many = cores() if ground.machine.device.type == "cpu" else max(1, len(_gpus(trainings)))
    return min(many, len(trainings))


def here(
    parts: Sequence[Group],
    work: Work,
    observers: Observers,
    stop: bool = False,
    progress: Overall | None = None,
) -> Failures:
    """One group after the other, in this process. If a group of several fails, each is tried alone.

    stop: whether the first error is raised. progress: shows them instead of the screen, or estimates for it.
    """
    failures: Failures = {}
    left = list(parts)
    while left:
        group = left.pop(0)
        with _followed(progress, group, observers) as watching:
            try:
                work(group, watching)
            except Exception as error:
                if len(group) > 1:
                    reason = " ".join((str(error) or type(error).__name__).split())
                    observers.screen.say(f"note   {len(group)} trainings are made one by one: {reason}")
                    left = [[training] for training in group] + left
                elif stop:
                    raise
                else:
                    failures[group[0].folder] = error
    return failures


@contextmanager
def _followed(progress: Overall | None, group: Group, observers: Observers) -> Iterator[Observers]:
    """The observers of a group that is trained in this process."""
    if progress is None:
        yield observers
        return

    def tell(kind: str, *what: Any) -> None:
        getattr(progress, kind)(0, *what)

    progress.start(0, called(group), seconds(group))
    screen = observers.screen
    if isinstance(progress, Estimate):
        screen.left = progress.seconds_left
        yield observers._replace(screen=Followed(tell, screen))
    else:
        yield observers._replace(screen=Reported(tell, screen.say))
    progress.end(0, [training.folder for training in group])


def called(group: Group) -> str:
    """A group in a row of the screen: `student resnet8, seed 1`, `3 students`."""
    first = group[0]
    return (
        f"{shown_role(first.name)} {first.model.name}, seed {first.seed}"
        if len(group) == 1
        else f"{len(group)} {first.kind}s"
    )


def processes(parts: Sequence[Part], work: Work, count: int, progress: Overall) -> Failures:
    """Each group in a process of its own, `count` at once, the largest first. If the runs name no GPU, each
    process sees only one, in turn.

    work: a function of a module, because the processes import it.
    """
    left = sorted(parts, key=lambda part: seconds(part.group), reverse=True)
    running, failures = dict[int, _Process](), Failures()
    gpus = _gpus(parts[0].group) if parts else []
    try:
        while left or running:
            for number in (n for n in range(count) if n not in running and left):
                part = left.pop(0)
                gpu = min(gpus, key=[one.gpu for one in running.values()].count, default="")
                running[number] = _started(part, work, gpu)
                progress.start(number, called(part.group), seconds(part.group))
            ready = wait([each for one in running.values() for each in one.awaited])
            for number, one in list(running.items()):
                for kind, *what in one.reports():
                    getattr(progress, kind)(number, *what)
                if one.process.sentinel in ready:
                    failures |= running.pop(number).failures()
                    progress.end(number, [training.folder for training in one.group])
    finally:
        for one in running.values():
            one.process.terminate()
    return failures


class _Process:
    """A process at work on a group. result: receives its progress, and its errors at the end. gpu: the only
    one that it sees, or empty.
    """

    def __init__(self, process: SpawnProcess, group: Group, result: Connection, gpu: str) -> None:
        self.process, self.group, self.result, self.gpu = process, group, result, gpu
        self.errors: Failures | None = None
        self.closed = False

    @property
    def awaited(self) -> tuple[Connection | int, ...]:
        """What `wait` returns when it has reported something, or ended."""
        return (self.process.sentinel,) if self.closed else (self.process.sentinel, self.result)

    def reports(self) -> Iterator[tuple[Any, ...]]:
        """What it has sent: names of methods of Overall, with their arguments."""
        try:
            while not self.closed and self.result.poll():
                kind, *what = self.result.recv()
                if kind == "failures":
                    (self.errors,) = what
                else:
                    yield kind, *what
        except (EOFError, OSError):
            self.closed = True

    def failures(self) -> Failures:
        """The errors of a process that has ended. If it was killed, each unfinished training has one."""
        self.process.join()
        for _ in self.reports():
            pass
        self.result.close()
        return self._killed() if self.errors is None else self.errors

    def _killed(self) -> Failures:
        code = self.process.exitcode
        error = KdrunError("runtime.jobs", None, f"a training process ended before it was done (exit {code})")
        error.while_running = True
        return {training.folder: error for training in self.group if finished(training) is None}


class _Telling:
    """Sends a screen's calls to the parent: the last step and epoch at once, others every PAUSE seconds."""

    def __init__(self, result: Connection) -> None:
        self.result, self.last, self.steps = result, 0.0, 0
        self.waiting: dict[str, tuple[Any, ...]] = {}

    def __call__(self, kind: str, *what: Any) -> None:
        if kind == "begin":
            self.steps, self.last = what[0] * what[1], 0.0
        self.waiting.pop(kind, None)
        self.waiting[kind] = what  # now the last in the order
        ended = self.waiting.get("step") == (self.steps,) or self.last == math.inf
        if kind == "begin" or ended or time.monotonic() - self.last >= PAUSE:
            for name, about in self.waiting.items():
                self.result.send((name, *about))
            self.waiting.clear()
            self.last = math.inf if ended else time.monotonic()


def _gpus(trainings: Sequence[Training]) -> list[str]:
    """The GPUs to spread processes over, as CUDA_VISIBLE_DEVICES names them; empty if the runs name one or
    need none.
    """
    if trainings[0].ground.machine.device != torch.device("cuda"):
        return []
    named = os.environ.get(VISIBLE)
    return [str(n) for n in range(torch.cuda.device_count())] if named is None else named.split(",")


@contextmanager
def _seeing(gpu: str) -> Iterator[None]:
    """Within the block, processes start with this GPU as their only one."""
    before = os.environ.get(VISIBLE)
    if gpu:
        os.environ[VISIBLE] = gpu
    try:
        yield
    finally:
        if gpu:
            os.environ.pop(VISIBLE)
        if gpu and before is not None:
            os.environ[VISIBLE] = before


def _started(part: Part, work: Work, gpu: str) -> _Process:
    context = multiprocessing.get_context("spawn")
    result, send = context.Pipe(duplex=False)
    wanted = [(_with_threads(training, part.threads), training.folder) for training in part.group]
    process = context.Process(target=_alone, args=(work, wanted, sys.path, send), daemon=True)
    with _seeing(gpu):
        process.start()
    send.close()
    return _Process(process, part.group, result, gpu)


def _with_threads(training: Training, threads: int | None) -> Run:
    run = training.ground.planned
    return run if run.threads != "auto" or threads is None else replace(run, threads=threads)


def _alone(work: Work, wanted: Sequence[tuple[Run, Path]], path: list[str], result: Connection) -> None:
    """The main function of a process: plans again, trains one group, and ends with its parent."""
    sys.path[:] = path
    threading.Thread(target=_end_with_parent, daemon=True).start()
    observers = Observers(Reported(_Telling(result)))
    try:
        group = [_planned(run, folder) for run, folder in wanted]
        failures = here([group], work, observers)
    except Exception as error:
        failures = {folder: error for _, folder in wanted}
    result.send(("failures", {folder: _sendable(error) for folder, error in failures.items()}))


def _planned(run: Run, folder: Path) -> Training:
    return next(training for training in make_plan(run).trainings if training.folder == folder)


def _sendable(error: Exception) -> Exception:
    """The error in a form that can be pickled."""
    if isinstance(error, KdrunError):
        return error
    text = "".join(traceback.format_exception(error)).rstrip()
    return RuntimeError(f"in a process of its own:\n{text}")


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
