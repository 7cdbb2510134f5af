"""`engine=processes`: several processes on this machine; with several GPUs, each process has one."""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import nullcontext
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any

import torch

from kdrun.plan.training import Training
from kdrun.resources import cores
from kdrun.stages.engines.crew import Crew, with_variable
from kdrun.stages.engines.engine import Audience, Failures, Work
from kdrun.stages.engines.worker import Telling, Wanted, killed, made, wanted
from kdrun.stages.groups import Group, spread
from kdrun.stages.noted import GroupThreads, parts

VISIBLE = "CUDA_VISIBLE_DEVICES"


class Processes(Crew):
    """One process for each group. If the runs name no GPU, each process sees only one, in turn."""

    def make(self, ready: Sequence[Training], work: Work, audience: Audience) -> Failures:
        count = min(self.jobs or most(ready), len(ready))
        threads = max(1, cores() // count)
        every = parts(ready, lambda new: spread(new, count), lambda group: threads, audience.several)
        return self.train(every, count, work, audience)

    def start(self, part: GroupThreads, work: Work, others: Collection[_Process]) -> _Process:
        gpu = min(_gpus(part.group), key=[one.gpu for one in others].count, default="")
        context = multiprocessing.get_context("spawn")
        result, send = context.Pipe(duplex=False)
        process = context.Process(target=_alone, args=(work, wanted(part), sys.path, send), daemon=True)
        with with_variable(VISIBLE, gpu) if gpu else nullcontext():  # its only one
            process.start()
        send.close()
        return _Process(process, part.group, result, gpu)

    def wait(self, running: Mapping[int, _Process]) -> Collection[int]:
        ready = wait([each for one in running.values() for each in one.awaited])
        return [number for number, one in running.items() if one.process.sentinel in ready]

    def stop(self, running: Sequence[_Process], audience: Audience) -> None:
        for one in running:
            one.process.terminate()


def most(ready: Sequence[Training]) -> int:
    """The most processes that this machine is good for: one per CPU core, or per GPU."""
    if not ready or ready[0].ground.machine.device.type == "cpu":
        return cores()
    return max(1, len(_gpus(ready)))


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
        self.process.join()
        for _ in self.reports():
            pass
        self.result.close()
        if self.errors is not None:
            return self.errors
        problem = f"a training process ended before it was done (exit {self.process.exitcode})"
        return killed(self.group, "runtime.jobs", problem)


def _gpus(trainings: Sequence[Training]) -> list[str]:
    """The GPUs to spread processes over, as CUDA_VISIBLE_DEVICES names them; empty if the runs name one or
    need none.
    """
    if trainings[0].ground.machine.device != torch.device("cuda"):
        return []
    named = os.environ.get(VISIBLE)
    return [str(n) for n in range(torch.cuda.device_count())] if named is None else named.split(",")


def _alone(work: Work, asked: Wanted, path: list[str], result: Connection) -> None:
    """The main function of a process: it ends with its parent."""
    sys.path[:] = path
    threading.Thread(target=_end_with_parent, daemon=True).start()
    result.send(("failures", made(work, asked, Telling(result.send))))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
