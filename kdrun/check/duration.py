"""Estimates of training time on this machine, from the first steps."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from torch import nn

from kdrun.check.measure import FirstStep, first_step
from kdrun.plan.answers import Answers, answers_plan
from kdrun.plan.plan import Plan
from kdrun.plan.training import Training
from kdrun.stages import saved as store
from kdrun.stages.saved import initial_model, load_model


def first_steps(plan: Plan) -> dict[str, FirstStep]:
    """The first step of each unfinished training, and of the student's in any case."""
    to_do = [training for training in plan.concerned if training.kind == "student" or epochs_left(training)]
    return {training.name: first_step(training, *asked(training)) for training in to_do}


def asked(training: Training) -> tuple[nn.Module, ...]:
    """The teachers that a training reads: trained, or with their initial weights."""
    weights = [(teacher, store.saved(teacher, teacher.ground.run.fresh)) for teacher in training.teachers]
    return tuple(
        initial_model(teacher) if own is None else load_model(own, teacher.ground.headline)
        for teacher, own in weights
    )


def epochs_left(training: Training) -> int:
    """Epochs of a training that are left."""
    done = store.status(training)
    return 0 if done.kind == "loaded" else training.epochs - done.epochs


def seconds_left(training: Training, step: FirstStep, answers: Answers | None = None) -> float:
    """The time for the rest of a training. answers: how it gets its teacher's answers; with a table, the
    teacher answers each view once.
    """
    ground, left = training.ground, epochs_left(training)
    if not left:
        return 0.0
    rows = training.row_set()
    asking = left * rows.steps * step.asking
    if step.asking and answers is not None and answers.kind == "tabled":
        views = ground.views.count or 1
        distinct = views * (1 - (1 - 1 / views) ** left)  # expected views of an image in so many draws
        asking = distinct * rows.steps * step.asking
    validating = left * len(ground.data.validation.labels) / rows.batch * step.seconds / 3
    return left * rows.steps * (step.seconds - step.asking) + asking + validating


def _first(training: Training) -> FirstStep:
    return first_step(training, *asked(training))


class Measured:
    """First steps of students by what they minimise, each with the pair on which it was measured."""

    def __init__(self) -> None:
        self.steps: dict[str, tuple[str, FirstStep]] = {}
        self.ratios: dict[tuple[str, str], float] = {}

    def step_of(self, training: Training) -> FirstStep:
        """Measured, or that of another pair times the ratio of a step that was measured on both."""
        pair = repr([training.key["model"], *(teacher.key["model"] for teacher in training.teachers)])
        what = repr([training.kind, training.recipe.batch, training.phases])
        before, step = self.steps.get(what, (pair, None))
        if step is not None and (ratio := self.ratios.get((before, pair))):
            return step._replace(seconds=ratio * step.seconds, asking=ratio * step.asking)
        own = _first(training)
        if step is not None:
            self.ratios[before, pair] = own.seconds / step.seconds
        self.steps.setdefault(what, (pair, own))
        return own


def of_each(trainings: Iterable[Training], measured: Measured | None = None) -> dict[Path, float]:
    """The seconds that are left of each training, by folder. Trainings that differ only in their seed are
    measured once. measured: of students on other pairs of models, from which those of this pair follow.
    """
    steps: dict[tuple[str, str, str], tuple[FirstStep, Answers | None]] = {}
    seconds: dict[Path, float] = {}
    for training in trainings:
        if training.folder in seconds:
            continue
        if not epochs_left(training):
            seconds[training.folder] = 0.0
            continue
        kind = (training.label, repr(training.recipe), repr(training.phases))
        if kind not in steps:
            taught = training.kind == "student"
            of_pairs = measured.step_of if measured and taught else _first
            steps[kind] = of_pairs(training), answers_plan(training) if taught else None
        seconds[training.folder] = seconds_left(training, *steps[kind])
    return seconds
