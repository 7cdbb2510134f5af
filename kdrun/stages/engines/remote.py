"""Engines whose workers may be on other machines: all that they need is in files that every machine sees."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from abc import abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from kdrun import artefacts, beats
from kdrun.config.ranges import number
from kdrun.errors import KdrunError
from kdrun.figures import listed, plural
from kdrun.machine import ONE_THREAD_MACS
from kdrun.plan.training import Training
from kdrun.stages.engines.crew import Crew
from kdrun.stages.engines.engine import Audience, Failures, Work
from kdrun.stages.engines.worker import Errand, Wanted, killed, wanted
from kdrun.stages.groups import Group, cut, spread
from kdrun.stages.noted import GroupThreads, parts
from kdrun.stages.saved import finished

LOOK = 1.0
"""Seconds between two looks at the workers."""

WORTH_A_WORKER = 600.0
"""A group that takes more estimated seconds on one core is split, if nothing limits the workers."""

GPU_FACTOR = 100.0
"""How much faster than that a GPU is, roughly."""

KINDS = ("begin", "step", "epoch", "state")
"""What a worker reports: methods of Overall."""

MOST_CORES = 4096

LAST = 3
"""Lines of the log of a lost worker in its error."""

ROOM = "engine"
"""The folder in the outputs folder for the files of engines."""


class Lost(Exception):
    """A worker ended without a result; the text says how: `OUT_OF_MEMORY`."""


class Handle:
    """A worker as its cluster knows it. name: `SLURM job 4711`. log: the file of what it prints. This one has
    nothing to do: what it would make is there.
    """

    name = "nothing"
    log = Path()

    def state(self) -> str:
        """What it does before it begins; empty if that is not known."""
        return ""

    def done(self) -> bool:
        """Whether it has ended, in whatever way."""
        return True

    def result(self) -> Failures:
        """What the errand returned. Raises Lost."""
        return {}

    def cancel(self) -> None:
        """Ends it."""


class Hired:
    """A worker that was asked for, and perhaps runs. progress: the file of its reports. kept: gets its log if
    it is lost.
    """

    def __init__(self, group: Group, handle: Handle, progress: Path, kept: set[Path]) -> None:
        self.group, self.handle, self.progress, self.kept = group, handle, progress, kept
        self.at, self.begun, self.state = 0, False, ""

    def reports(self) -> Iterator[tuple[Any, ...]]:
        for line in self._new_lines():
            kind, *what = json.loads(line)
            if kind in KINDS:
                self.begun = True
                yield kind, *what
        state = "" if self.begun else self.handle.state()
        if state and state != self.state:
            self.state = state
            yield "state", state

    def _new_lines(self) -> list[bytes]:
        """The whole lines that were written since the last call."""
        try:
            with self.progress.open("rb") as file:
                file.seek(self.at)
                content = file.read()
        except FileNotFoundError:
            return []
        whole = content[: content.rfind(b"\n") + 1]
        self.at += len(whole)
        return whole.splitlines()

    def failures(self) -> Failures:
        try:
            return self.handle.result()
        except Lost as how:
            self.kept.add(self.handle.log)
            problem = f"{self.handle.name} ended before it was done ({how})"
            return killed(self.group, "engine", f"{problem}{_last(self.handle.log)}")


class WorkerResources(NamedTuple):
    """What a worker gets. gpus: auto, or a number. memory: in GB; None: the cluster decides."""

    gpus: Any
    cpus: int
    memory: float | None

    def check(self) -> None:
        """Raises KdrunError for a number that is out of range."""
        if self.gpus != "auto" and not (number(self.gpus) and 0 <= self.gpus <= 1):
            problem = "must be auto, or a number up to 1: a training uses one GPU at most"
            raise KdrunError("engine.gpus", self.gpus, problem)
        if not (number(self.cpus) and 1 <= self.cpus <= MOST_CORES):
            raise KdrunError("engine.cpus", self.cpus, f"must be from 1 to {MOST_CORES}")
        if self.memory is not None and not self.memory > 0:
            raise KdrunError("engine.memory", self.memory, "must be above 0 (GB), or null")


class Remote(Crew):
    """Hands each group to a cluster as a job of its own; the calling process waits, shows and evaluates.

    Two jobs of one call never write one folder, since each training is in one group and its teachers are done
    before. What another call makes is waited for, not made twice.
    """

    errand: type[Errand] = Errand

    def __init__(self, jobs: int | None, needs: WorkerResources) -> None:
        super().__init__(jobs)
        needs.check()
        self.needs, self.numbers, self.kept = needs, 0, set[Path]()
        self.folder: Path | None = None
        self.told: set[Path] = set()

    @abstractmethod
    def open(self, folder: Path, gpus: float) -> None:
        """Connects to the cluster. folder: for its files. gpus: of each worker. Raises KdrunError."""

    @abstractmethod
    def submit(self, errand: Errand) -> Handle:
        """Asks for a worker. Raises KdrunError if the cluster refuses."""

    def look(self, handles: Sequence[Handle]) -> None:
        """Called once a second: asks the cluster about all workers at once."""
        return None

    def make(self, ready: Sequence[Training], work: Work, audience: Audience) -> Failures:
        run, gpus = ready[0].ground.run, self.gpus(ready)
        if self.folder is None:
            _refuse_numbered(ready)
            stamp = f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
            self.folder = Path(run.outputs_dir).absolute() / ROOM / stamp
            self.folder.mkdir(parents=True, exist_ok=True)
            self.open(self.folder, gpus)
            _warn(ready, gpus, audience)
        share = WORTH_A_WORKER * (GPU_FACTOR if gpus else 1)

        def shape(new: list[Group]) -> list[Group]:
            return cut(new, share) if self.jobs is None else spread(new, self.jobs)

        every = parts(ready, shape, self.threads, audience.several)
        return self.train(every, min(self.jobs or len(every), len(every)), work, audience)

    def gpus(self, ready: Sequence[Training]) -> float:
        """The GPUs of a worker."""
        if self.needs.gpus == "auto":
            return 0 if ready[0].ground.run.device == "cpu" else 1
        return float(self.needs.gpus)

    def threads(self, group: Group) -> int:
        """The threads of a group's worker: one if its steps are small."""
        return 1 if max(training.macs for training in group) < ONE_THREAD_MACS else int(self.needs.cpus)

    def next(self, left: list[GroupThreads], audience: Audience) -> GroupThreads | None:
        """The first group on which nobody else works."""
        for part in left:
            at_work = {
                each: artefacts.holder(each.folder) or beats.elsewhere(each.folder) for each in part.group
            }
            if not any(at_work.values()):
                left.remove(part)
                return part
            for training, who in at_work.items():
                if who and training.folder not in self.told:
                    audience.observers.screen.say(f"{training.name:8} waits for {who}, which trains it")
                    self.told.add(training.folder)
        return None

    def start(self, part: GroupThreads, work: Work, others: Collection[Hired]) -> Hired:
        assert self.folder is not None
        self.numbers += 1
        progress = self.folder / f"{self.numbers}.jsonl"
        errand = self.errand(work, _resolved(part), progress)
        made = all(finished(training, training.ground.run.fresh) for training in part.group)  # meanwhile
        return Hired(part.group, Handle() if made else self.submit(errand), progress, self.kept)

    def wait(self, running: Mapping[int, Hired]) -> Collection[int]:
        time.sleep(LOOK)
        self.look([one.handle for one in running.values()])
        return [number for number, one in running.items() if one.handle.done()]

    def stop(self, running: Sequence[Hired], audience: Audience) -> None:
        for one in running:
            one.handle.cancel()
        if running:
            names = listed([one.handle.name for one in running], LAST)
            text = f"cancelled {plural(len(running), 'job')}: {names}; their states are kept"
            audience.observers.screen.say(text)

    def close(self) -> None:
        """Removes the files of the engine, but for the logs that errors name."""
        if self.folder is None:
            return
        for path in list(self.folder.iterdir()):
            if path in self.kept:
                continue
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
        for folder in (self.folder, self.folder.parent):
            if not any(folder.iterdir()):
                folder.rmdir()


def _resolved(part: GroupThreads) -> Wanted:
    """What a worker needs, with the precision of this machine: it is in the key of a training, and `auto`
    could be another one there.
    """
    precision = part.group[0].ground.machine.precision
    return [(replace(run, precision=precision), folder) for run, folder in wanted(part)]


def _refuse_numbered(ready: Sequence[Training]) -> None:
    device = ready[0].ground.run.device
    if re.fullmatch(r"cuda:\d+", device):
        problem = "the engine chooses the GPU of each training: device=cuda or auto"
        raise KdrunError("device", device, problem)


def _warn(ready: Sequence[Training], gpus: float, audience: Audience) -> None:
    """A note if trainings on GPUs get the precision of a machine without one."""
    ground = ready[0].ground
    if gpus and ground.run.precision == "auto" and ground.machine.device.type == "cpu":
        audience.observers.screen.say(
            "note   this machine has no GPU, so precision=auto is fp32 in all trainings; for bf16, start "
            "kdrun on a machine with the GPU"
        )


def _last(log: Path) -> str:
    """The last lines of a worker's log, and where all are, as the end of an error."""
    try:
        lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    except OSError:
        return f"; it left no log {log}"
    said = f"its last lines: {' / '.join(lines[-LAST:])}" if lines else "its log is empty"
    return f"; {said} ({log})"
