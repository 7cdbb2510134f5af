"""Engines with workers: processes, here or on other machines, each of which makes one group at a time."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from kdrun.progress.watchers import Reader
from kdrun.stages.engines.engine import Audience, Engine, Failures, Work, called
from kdrun.stages.groups import Group, seconds
from kdrun.stages.noted import GroupThreads


@contextmanager
def with_variable(name: str, value: str) -> Iterator[None]:
    """Within the block, an environment variable has this value, for processes that are started in it."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        os.environ.pop(name, None)
        if before is not None:
            os.environ[name] = before


class WorkerProcess(Protocol):
    """A process at work on a group."""

    group: Group

    def reports(self) -> Iterator[tuple[Any, ...]]:
        """What it has told since the last call: names of methods of Overall, with their arguments."""
        ...

    def failures(self) -> Failures:
        """The errors of a worker that has ended. If it was killed, each unfinished training has one."""
        ...


class Crew(Engine):
    """Starts a worker for each group, the largest first, and follows them all."""

    @abstractmethod
    def start(self, part: GroupThreads, work: Work, others: Collection[Any]) -> WorkerProcess:
        """A worker for a group. others: those that are at work."""

    @abstractmethod
    def wait(self, running: Mapping[int, Any]) -> Collection[int]:
        """Waits for news of the workers; the numbers of those that have ended. None may be at work."""

    @abstractmethod
    def stop(self, running: Sequence[Any], audience: Audience) -> None:
        """Stops workers after an error, or an interruption."""

    def next(self, left: list[GroupThreads], audience: Audience) -> GroupThreads | None:
        """Takes the group that is started next from the list; None if none can be started now."""
        return left.pop(0)

    def train(self, every: Sequence[GroupThreads], count: int, work: Work, audience: Audience) -> Failures:
        """Makes each group by a worker of its own, `count` at once."""
        left = sorted(every, key=lambda part: seconds(part.group), reverse=True)
        running, failures, progress = dict[int, Any](), Failures(), audience.progress()
        readers = {each.folder: Reader(each, audience.observers) for part in every for each in part.group}
        try:
            while left or running:
                for number in (n for n in range(count) if n not in running and left):
                    if (part := self.next(left, audience)) is None:
                        break
                    running[number] = self.start(part, work, running.values())
                    progress.start(number, called(part.group), seconds(part.group))
                ended = self.wait(running)
                for number, one in list(running.items()):
                    for kind, *what in one.reports():
                        getattr(progress, kind)(number, *what)
                        if kind == "epoch":
                            _read(one.group, readers)
                    if number in ended:
                        failures |= running.pop(number).failures()
                        _read(one.group, readers)
                        progress.end(number, [training.folder for training in one.group])
        finally:
            self.stop(list(running.values()), audience)
        return failures


def _read(group: Group, readers: Mapping[Any, Reader]) -> None:
    for training in group:
        readers[training.folder].read()
