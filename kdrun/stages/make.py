"""Makes each training once: it is finished already, continued, or started. A run is a sweep of one job."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import cache, partial
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

from kdrun.artefacts import empty, locked, set_aside, sweep_parts
from kdrun.beats import beating, wait_for_others
from kdrun.plan.plan import Plan
from kdrun.plan.training import Training
from kdrun.progress.overall import Estimate, Overall, overall
from kdrun.progress.screen import Screen
from kdrun.progress.watchers import Observers
from kdrun.stages.engines.engine import Audience, Failures, engine
from kdrun.stages.groups import Group, evaluation_seconds, seconds
from kdrun.stages.noted import forget, note_loop, settle
from kdrun.stages.saved import finished, saved, since_start, state_file
from kdrun.stages.teacher_notes import teacher_notes
from kdrun.stages.train import train
from kdrun.training.checkpoint import read_state


class Made(NamedTuple):
    """Folders of the trainings that were made in this call, and the errors of those that failed."""

    trained: frozenset[Path] = frozenset()
    failures: Mapping[Path, Exception] = {}


def make(plans: Sequence[Plan], observers: Observers) -> Made:
    """Trains what the runs need and is not finished: teachers first, then those that learn from them.

    A training that several runs need is made once. Trainings share a loop if they gain by it; the engine of
    the runs says where they are made. With a single run, the first error is raised.
    """
    failures: Failures = {}
    tried: list[Training] = []
    shown: set[str] = set()
    several = len(plans) > 1
    if not plans:
        return Made()
    names = [len(training.name) for plan in plans for training in plan.concerned]
    observers.screen.names = max([Screen.names, *names])
    with ExitStack() as closing:
        progress = cache(lambda: _progress(plans, partial(overall, observers.screen), closing))
        estimate = cache(lambda: _progress(plans, Estimate, closing))
        if several:
            progress()
        maker = engine(plans[0].run)
        closing.callback(maker.close)
        for trainings in _rounds(plans):
            ready = [training for training in _missing(trainings) if _is_ready(training)]
            tried += ready
            for note in dict.fromkeys(teacher_notes(ready)):
                if note not in shown:
                    observers.screen.say(f"note   {note}")
                shown.add(note)
            if ready:
                failures |= maker.make(ready, make_group, Audience(observers, several, progress, estimate))
            if failures and not several:
                raise next(iter(failures.values()))
    return Made(frozenset(each.folder for each in tried if finished(each) is not None), failures)


def _progress(plans: Sequence[Plan], made: Callable[..., Overall], closing: ExitStack) -> Overall:
    """The progress of all unfinished trainings, until `closing`."""
    every = [training for trainings in _rounds(plans) for training in trainings]
    left = [training for training in every if finished(training, training.ground.run.fresh) is None]
    after = sum(evaluation_seconds(plan) for plan in plans)
    progress = made({training.folder: seconds([training]) for training in left}, after)
    closing.callback(progress.close)
    return progress


def make_group(group: Sequence[Training], observers: Observers) -> None:
    """Trains the unfinished trainings of a group; those at the same step share a loop."""
    with ExitStack() as locks:
        for training in sorted(group, key=lambda training: training.folder):
            locks.enter_context(_held(training, observers.screen))
        settle(group)
        at_one_step: dict[tuple[int, int], Group] = {}
        for training in _missing(group):
            _start_over(training)
            at_one_step.setdefault(_position(training), []).append(training)
        for trainings in at_one_step.values():
            note_loop(trainings)
            _call_others(trainings[0])
            train(trainings, observers)


def _call_others(training: Training) -> None:
    """Names the training to the other ranks, which take part in it."""
    training.ground.machine.ranks.shared(lambda: training.folder.name)


def _rounds(plans: Sequence[Plan]) -> Iterator[list[Training]]:
    """The trainings of the plans in rounds, each folder once; a round needs only earlier rounds."""
    for several in zip_longest(*(plan.rounds for plan in plans), fillvalue=()):
        by_folder = {training.folder: training for one in several for training in one}
        yield list(by_folder.values())


def _missing(trainings: Sequence[Training]) -> list[Training]:
    """The unfinished trainings. A finished one may still have a state if it was killed just then: removed."""
    missing = []
    for training in trainings:
        if finished(training, training.ground.run.fresh) is None:
            missing.append(training)
        else:
            state_file(training).unlink(missing_ok=True)
            forget(training.folder)
    return missing


def _is_ready(training: Training) -> bool:
    """Whether what it needs is trained. If one failed, its error is the one to report."""
    return all(saved(before) is not None for before in training.after)


def _position(training: Training) -> tuple[int, int]:
    state = read_state(state_file(training), keep=True)
    return (state["position"][0], state["position"][1]) if state else (0, 0)


def _held(training: Training, screen: Screen) -> ExitStack:
    def waits(who: str) -> None:
        screen.say(f"{training.name:8} waits for {who}, which trains it")

    held = ExitStack()
    held.enter_context(locked(training.folder, waits))
    wait_for_others(training.folder, waits)
    held.enter_context(beating(training.folder))
    sweep_parts(training.folder)
    for line in set_aside(training.folder):
        screen.say(line)
    return held


def _start_over(training: Training) -> None:
    """Removes the mark; with `fresh`, everything from before the command."""
    training.mark.unlink(missing_ok=True)
    state: Path = state_file(training)
    if training.ground.run.fresh and not (state.exists() and since_start(state.stat().st_mtime)):
        empty(training.folder)
