"""What an engine is, and how it is found: `engine=slurm` is the module `kdrun.stages.engines.slurm`."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import kdrun.lookup as lookup
from kdrun.config.choices import shown_role
from kdrun.config.schema import Run
from kdrun.plan.training import Training
from kdrun.progress.overall import Estimate, Overall
from kdrun.progress.watchers import Observers
from kdrun.sources import sources
from kdrun.stages.groups import Group
from kdrun.stages.noted import Part, parts, write_notes
from kdrun.users_code import is_users, one_line

Failures = dict[Path, Exception]
"""Errors of trainings by folder."""

Work = Callable[[Group, Observers], None]
"""Trains a group."""


class Audience(NamedTuple):
    """Who follows the trainings of a call.

    several: whether there are several runs; with one, its first error ends it. progress: of all trainings, on
    the screen; made when it is first asked for. estimate: of a single run, whose screen shows each training.
    """

    observers: Observers
    several: bool
    progress: Callable[[], Overall]
    estimate: Callable[[], Estimate]


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


def divided(
    ready: Sequence[Training],
    spread: Callable[[list[Group]], list[Group]],
    threads: Callable[[Group], int | None],
    audience: Audience,
) -> list[Part]:
    """The groups of trainings. The groups of several runs are written down.

    spread, threads: as in `parts`.
    """
    every = parts(ready, spread, threads)
    if audience.several:
        write_notes(every)
    return every


def called(group: Group) -> str:
    """A group in a row of the screen: `student resnet8, seed 1`, `3 students`."""
    first = group[0]
    return (
        f"{shown_role(first.name)} {first.model.name}, seed {first.seed}"
        if len(group) == 1
        else f"{len(group)} {first.kind}s"
    )


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
