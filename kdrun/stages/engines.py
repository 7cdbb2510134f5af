"""Where trainings are made: in this process, or in several on this machine."""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import NamedTuple

import torch
from rich.console import Console

from kdrun.config.schema import Run
from kdrun.errors import KdrunError
from kdrun.plan.plan import make_plan
from kdrun.plan.training import Training
from kdrun.progress.screen import screen
from kdrun.progress.watchers import Observers
from kdrun.resources import cores
from kdrun.stages.groups import Group, seconds, spread
from kdrun.stages.saved import finished

WORTH_PROCESSES = 60.0
"""Estimated seconds of training from which it is worth starting processes."""

LINES = 10
"""Lines that say how far the processes are."""

VISIBLE = "CUDA_VISIBLE_DEVICES"

Failures = dict[Path, Exception]
"""Errors of trainings by folder."""

Work = Callable[[Group, Observers], None]
"""Trains a group."""


def processes_for(parts: Sequence[Group]) -> int:
    """How many processes train: as the runs ask for, else one per core of a CPU, or one per GPU, if it is
    worth it. Never more than there are trainings.
    """
    trainings = [training for group in parts for training in group]
    if not trainings:
        return 1
    ground = trainings[0].ground
    wanted = ground.run.runtime.jobs
    if wanted != "auto":
        return min(int(wanted), len(trainings))
    if sum(map(seconds, parts)) <= WORTH_PROCESSES:
        return 1
    many = cores() if ground.machine.device.type == "cpu" else max(1, len(_gpus(parts)))
    return min(many, len(trainings))


def here(parts: Sequence[Group], work: Work, observers: Observers, stop: bool = False) -> Failures:
    """One group after the other, in this process. If a group of several fails, each is tried alone.

    stop: whether the first error is raised.
    """
    failures: Failures = {}
    left = list(parts)
    while left:
        group = left.pop(0)
        try:
            work(group, observers)
        except Exception as error:
            if len(group) > 1:
                left = [[training] for training in group] + left
            elif stop:
                raise
            else:
                failures[group[0].folder] = error
    return failures


def processes(parts: Sequence[Group], work: Work, count: int, say: Callable[[str], None]) -> Failures:
    """Each group in a process of its own, `count` at once, each with its share of the cores. If the runs
    name no GPU, each process sees one only, in turn.

    work: a function of a module, which the processes import.
    """
    left, running = spread(parts, count), dict[int, _Process]()
    threads, total, failures = max(1, cores() // count), sum(map(len, parts)), Failures()
    done, gpus = 0, _gpus(parts)
    try:
        while left or running:
            while left and len(running) < count:
                gpu = min(gpus, key=[each.gpu for each in running.values()].count, default="")
                started = _started(left.pop(0), work, threads, gpu)
                running[started.process.sentinel] = started
            before = done
            for sentinel in wait(list(running)):
                ended = running.pop(sentinel)  # type: ignore[arg-type]
                done += len(ended.group)
                failures |= ended.failures()
            if LINES * done // total > LINES * before // total:
                say(f"trained {done} of {total}")
    finally:
        for each in running.values():
            each.process.terminate()
    return failures


class _Process(NamedTuple):
    """A process at work on a group. result: where it sends errors. gpu: the only one it sees, or empty."""

    process: SpawnProcess
    group: Group
    result: Connection
    gpu: str

    def failures(self) -> Failures:
        """The errors of a process that has ended; of one that was killed, for all that is not finished."""
        self.process.join()
        try:
            failures: Failures = self.result.recv() if self.result.poll() else self._killed()
        except EOFError:
            failures = self._killed()
        self.result.close()
        return failures

    def _killed(self) -> Failures:
        code = self.process.exitcode
        error = KdrunError(
            "runtime.jobs", None, f"a process that trained ended before it was done (exit {code})"
        )
        error.while_running = True
        return {t.folder: error for t in self.group if finished(t) is None}


def _gpus(parts: Sequence[Group]) -> list[str]:
    """The GPUs over which processes are spread, as CUDA_VISIBLE_DEVICES names them; none if the runs name one
    or need none.
    """
    if parts[0][0].ground.machine.device != torch.device("cuda"):
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


def _started(group: Group, work: Work, threads: int, gpu: str) -> _Process:
    context = multiprocessing.get_context("spawn")
    result, send = context.Pipe(duplex=False)
    wanted = [(_with_threads(training, threads), training.folder) for training in group]
    process = context.Process(target=_alone, args=(work, wanted, sys.path, send), daemon=True)
    with _seeing(gpu):
        process.start()
    send.close()
    return _Process(process, group, result, gpu)


def _with_threads(training: Training, threads: int) -> Run:
    run = training.ground.run
    return run if run.threads != "auto" else replace(run, threads=threads)


def _alone(work: Work, wanted: Sequence[tuple[Run, Path]], path: list[str], result: Connection) -> None:
    """In a process of its own: plans again, trains one group, and ends with its parent."""
    sys.path[:] = path
    threading.Thread(target=_end_with_parent, daemon=True).start()
    observers = Observers(screen(Console(quiet=True)))
    try:
        group = [_planned(run, folder) for run, folder in wanted]
        failures = here([group], work, observers)
    except Exception as error:
        failures = {folder: error for _, folder in wanted}
    result.send({folder: _sendable(error) for folder, error in failures.items()})


def _planned(run: Run, folder: Path) -> Training:
    return next(training for training in make_plan(run).trainings if training.folder == folder)


def _sendable(error: Exception) -> Exception:
    """The error as another process can read it."""
    if isinstance(error, KdrunError):
        return error
    text = "".join(traceback.format_exception(error)).rstrip()
    return RuntimeError(f"in a process of its own:\n{text}")


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
