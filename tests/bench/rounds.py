"""Rounds: each arm does one epoch, in one order and then in the reverse, all in one run.

Arms live in two processes, one whose allocator is as the system has it and one that keeps memory; only one
arm works at a time.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection
from types import TracebackType
from typing import NamedTuple

from tests.bench.arm import Arm
from tests.bench.arms import Kind
from tests.bench.scene import Scene, one_thread


class Spent(NamedTuple):
    """Seconds of an epoch, divided by the trainings that were done in it: of the process's work on all
    processors (cpu), and on the clock (wall). load: of the machine, over the last minute.
    """

    cpu: float
    wall: float
    loss: float
    load: float


def timed(work: Callable[[], float], device: str) -> Spent:
    """One epoch on both clocks; a GPU has nothing left to do before and after it."""
    _wait(device)
    cpu, wall = time.process_time(), time.perf_counter()
    loss = work()
    _wait(device)
    now = time.process_time(), time.perf_counter()
    return Spent(now[0] - cpu, now[1] - wall, loss, os.getloadavg()[0])


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        import torch

        torch.cuda.synchronize()


class Workers:
    """The processes, started when an arm of theirs is opened. kinds: all arms, by name."""

    def __init__(self, scene: Scene, kinds: Mapping[str, Kind]) -> None:
        self.scene, self.kinds = scene, kinds
        self.lines: dict[bool, Connection] = {}
        self.processes: list[multiprocessing.process.BaseProcess] = []

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for line in self.lines.values():
            line.send(None)
        for process in self.processes:
            process.join()

    def ask(self, verb: str, name: str) -> Spent:
        """verb: `open` makes an arm and does its first epoch; `epoch` does its next. Raises RuntimeError."""
        cpu, wall, *others = self._answer(verb, name)
        runs = self.kinds[name].runs
        return Spent(cpu / runs, wall / runs, *others)

    def peak(self, name: str) -> float:
        """The most memory that the arm's process had, in MB."""
        return float(self._answer("peak", name)[0])

    def _answer(self, verb: str, name: str) -> Sequence[float]:
        kept = self.kinds[name].kept
        if kept not in self.lines:
            self.lines[kept] = self._start(kept)
        self.lines[kept].send((verb, name))
        answer: Sequence[float] | str = self.lines[kept].recv()
        if isinstance(answer, str):
            raise RuntimeError(f"{name}: {answer}")
        return answer

    def _start(self, kept: bool) -> Connection:
        one_thread()
        context = multiprocessing.get_context("spawn")
        here, there = context.Pipe()
        process = context.Process(target=serve, args=(self.scene, dict(self.kinds), kept, there))
        process.start()
        self.processes.append(process)
        return here


def serve(scene: Scene, kinds: Mapping[str, Kind], kept: bool, line: Connection) -> None:
    """A process that makes arms and does their epochs as it is asked to."""
    import torch

    from kdrun import machine

    if not kept:
        vars(machine)["keep_memory"] = lambda: (
            False
        )  # what a run would set, for the arms that come without it
    torch.set_num_threads(scene.threads)
    made: dict[str, Arm] = {}
    while (message := line.recv()) is not None:
        verb, name = message
        try:
            if verb == "open":
                made[name] = kinds[name].make(scene)
            line.send((_peak(),) if verb == "peak" else tuple(timed(made[name].epoch, scene.device)))
        except Exception:
            line.send(traceback.format_exc())
    for arm in made.values():
        arm.close()


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def interleaved(
    ask: Callable[[str, str], Spent], names: Sequence[str], rounds: int, say: Callable[[str], None]
) -> Mapping[str, list[Spent]]:
    """So many epochs of each arm after one that is not counted; every other round in reverse order."""
    for name in names:
        say(f"warming up {name}")
        ask("open", name)
    found: dict[str, list[Spent]] = {name: [] for name in names}
    for number in range(rounds):
        for name in names if number % 2 == 0 else reversed(names):
            found[name].append(ask("epoch", name))
        say(f"round {number + 1} of {rounds}")
    return found
