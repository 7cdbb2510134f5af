"""What an engine is, and how it is found: `engine=slurm` is the module `kdrun.stages.engines.slurm`. And how
groups are made one by one in a process.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import kdrun.lookup as lookup
from kdrun.config.choices import shown_role
from kdrun.config.schema import Run
from kdrun.plan.training import Training
from kdrun.progress.overall import Estimate, Overall
from kdrun.progress.screen import Said
from kdrun.progress.watchers import Observers, Told
from kdrun.sources import sources
from kdrun.stages.groups import Group, seconds
from kdrun.users_code import is_users, one_line

Failures = dict[Path, Exception]
"""Errors of trainings by folder."""

Work = Callable[[Group, Observers], None]
"""Trains a group."""


class Audience(NamedTuple):
    """Who follows the trainings of a call.

    several: whether there are several runs; with one, its first error ends it. progress: of all trainings, on
    the screen; made when it is first asked for. estimate: an Estimate of a single run, whose screen shows
    each training.
    """

    observers: Observers
    several: bool
    progress: Callable[[], Overall]
    estimate: Callable[[], Overall]


class Engine(ABC):
    """Where trainings are made. The arguments after `jobs` are the keys of its file in `conf/engine`.

    jobs: how many trainings run at once; None: the engine decides.
    """

    def __init__(self, jobs: int | None) -> None:
        self.jobs = jobs

    @abstractmethod
    def make(self, ready: Sequence[Training], work: Work, audience: Audience) -> Failures:
        """Makes trainings that need nothing of each other, in groups by `work`, a function of a module.

        A training that fails is an error in the result; others go on. With a single run, an engine that works
        in this process may raise it instead.
        """

    def close(self) -> None:
        """Called when nothing more is to be made, also after an error."""
        return None


def called(group: Group) -> str:
    """A group in a row of the screen: `student resnet8, seed 1`, `3 students`."""
    first = group[0]
    if len(group) > 1:
        return f"{len(group)} {first.kind}s"
    return f"{shown_role(first.name)} {first.model.name}, seed {first.seed}"


def one_by_one(
    groups: Sequence[Group],
    work: Work,
    observers: Observers,
    stop: bool = False,
    progress: Overall | None = None,
) -> Failures:
    """One group after the other. If a group of several fails, each is tried alone.

    stop: whether the first error is raised. progress: shows them instead of the screen, or estimates for it.
    """
    failures: Failures = {}
    left = list(groups)
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
    else:
        screen = Said(screen.say)
    yield observers._replace(screen=screen, told=Told(tell))
    progress.end(0, [training.folder for training in group])


def _engines(module: ModuleType) -> list[type[Engine]]:
    return [
        thing
        for name, thing in vars(module).items()
        if lookup.is_class(thing) and issubclass(thing, Engine) and not inspect.isabstract(thing)
        if thing.__module__ == module.__name__ and not name.startswith("_")
    ]


ENGINES = lookup.Room("kdrun.stages.engines", "engine", _engines, "one public Engine", "kdrun list engines")


def engine(run: Run) -> Engine:
    """The engine of a run. Raises KdrunError for a wrong key or value, and if it cannot work here."""
    keys = dict(run.engine)
    name = str(keys.pop("name"))
    kind = lookup.find(ENGINES, name, "engine")
    lookup.check_arguments(f"engine {name}", lookup.parameters(kind, besides=("jobs",)), keys, "engine")
    jobs = None if run.runtime.jobs == "auto" else int(run.runtime.jobs)
    with one_line("engine", name) if is_users(kind) else nullcontext():
        return kind(jobs, **keys)


def refuse_unusable(run: Run) -> None:
    """Raises KdrunError if the engine of a run has a wrong key or value, or cannot work here. Called before
    the plan, which may take long.
    """
    if run.packages:  # read before the import, as for the plan
        sources(asdict(run), run.packages)
    engine(run)
