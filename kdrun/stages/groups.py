"""Which trainings share a loop, and how long they take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import mul
from typing import Any

from kdrun.artefacts import fingerprint
from kdrun.plan.answers import answers_plan
from kdrun.plan.training import Training
from kdrun.types import CLASSIFIER

STACKED_MACS = 60e6
"""Models whose step has fewer multiply-accumulates are worth batching: calls are most of their time."""

STACKED, SHARED = 32, 8
"""Learners at once, at most: of one batched model, and of those that only share a live teacher."""

STEP_SECONDS, MACS_A_SECOND = 0.5e-3, 2e10
"""What a step takes at least, and what one core does. For estimates."""

WORTH_STACKING = 8.0
"""Estimated seconds of training from which a batched model is worth making: to trace it takes about 3."""

Group = list[Training]


def groups(trainings: Sequence[Training]) -> list[Group]:
    """Those that can be trained in one loop, and gain by it; most often each alone."""
    by_kind: dict[str, Group] = {}
    for training in trainings:
        by_kind.setdefault(_kind(training), []).append(training)
    return [part for kind, group in by_kind.items() for part in _parts(kind, group)]


def seconds(group: Group) -> float:
    """About how long the trainings take on one core, one after the other."""
    steps = [training.epochs * training.row_set().steps for training in group]
    one = [STEP_SECONDS + training.macs / MACS_A_SECOND for training in group]
    return float(sum(map(mul, steps, one)))


def spread(parts: Sequence[Group], processes: int) -> list[Group]:
    """The same, the largest first. A group that would keep one process busy while others wait is cut in
    halves.
    """
    share = sum(map(seconds, parts)) / processes
    large = [group for group in parts if len(group) > 1 and seconds(group) > share]
    small = [group for group in parts if group not in large]
    while large:
        group = large.pop()
        for half in (group[: len(group) // 2], group[len(group) // 2 :]):
            (large if len(half) > 1 and seconds(half) > share else small).append(half)
    return sorted(small, key=seconds, reverse=True)


def stackable(training: Training) -> bool:
    """Whether the learner can be, and gains by being, one of a batched model."""
    (mix, *more) = training.mixes
    plain = CLASSIFIER not in mix.needs.student | mix.needs.teacher and not mix.needs.indices
    steady = all(term.loss.capturable for term in mix.terms)
    one = training.momentum_delta is None and not more and training.peer is None
    return plain and steady and one and training.macs < STACKED_MACS


def _parts(kind: str, group: Group) -> list[Group]:
    most = SHARED if kind.startswith("live") else STACKED
    if kind.startswith("stacked") and seconds(group) < WORTH_STACKING:
        most = 1
    return [group[first : first + most] for first in range(0, len(group), most)]


def _kind(training: Training) -> str:
    """Equal for trainings of one group."""
    ground = training.ground
    if len(training.phases) > 1 or training.peer is not None or not ground.run.runtime.together:
        return "alone" + training.folder.name
    own = {name: value for name, value in training.key.items() if name not in ("seed", "model", "loss")}
    about = [own, training.kind, ground.headline, len(training.rows), ground.run.outputs_dir]
    about += [str(ground.machine), sorted(training.teacher_needs)]
    if stackable(training):
        terms = {name: _numberless(term) for name, term in training.loss.items()}
        names = training.mixes[-1].names
        return "stacked" + fingerprint([about, training.key["model"], terms, names])
    if training.kind == "student" and answers_plan(training).runs:
        return "live" + fingerprint([about, training.seed])
    return "alone" + training.folder.name


def _numberless(term: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in term.items() if name not in ("weight", "temperature")}
