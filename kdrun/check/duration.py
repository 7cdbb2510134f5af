"""Estimates of training time on this machine, from the first steps."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from kdrun import __version__
from kdrun.artefacts import fingerprint, read_json, write_json
from kdrun.check.measure import FirstStep, StepPace, first_step
from kdrun.config.schema import Runtime
from kdrun.machine import environment
from kdrun.plan.answers import AnswersPlan, answers_plan
from kdrun.plan.plan import Plan
from kdrun.plan.training import Training
from kdrun.stages.saved import status

RUNTIME = ("compile", "graph", "sync_bn")
"""Settings on which the time of a step depends."""


def first_steps(plan: Plan) -> dict[str, FirstStep]:
    """The first step of each unfinished training, and of the student's in any case."""
    to_do = [training for training in plan.concerned if training.kind == "student" or epochs_left(training)]
    return {training.name: first_step(training) for training in to_do}


def epochs_left(training: Training) -> int:
    """Epochs of a training that are left."""
    done = status(training)
    return 0 if done.kind == "loaded" else training.epochs - done.epochs


def seconds_left(training: Training, step: StepPace, answers: AnswersPlan | None = None) -> float:
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


class Paces:
    """How fast trainings were in their first steps. file: keeps it for later calls on this machine; what
    cannot be read there is measured again. fresh: all is.
    """

    def __init__(self, file: Path | None = None, fresh: bool = False) -> None:
        self.file, self.known = file, {} if file is None or fresh else _kept(file)
        self.of_losses: dict[str, tuple[str, StepPace]] = {}
        self.ratios: dict[tuple[str, str], float] = {}

    def of(self, training: Training) -> StepPace:
        """Measured now, or earlier."""
        key = _same_pace(training)
        if key not in self.known:
            self.known[key] = first_step(training).pace
            if self.file is not None:
                with contextlib.suppress(OSError):  # only a later call would gain
                    self.file.parent.mkdir(parents=True, exist_ok=True)
                    write_json(self.file, _kept(self.file) | self.known)
        return self.known[key]

    def of_student(self, training: Training) -> StepPace:
        """The same, or what was measured of its losses on another pair of models, times the ratio of a step
        that was measured on both pairs.
        """
        pair = repr([training.key["model"], *(teacher.key["model"] for teacher in training.teachers)])
        what = repr([training.kind, training.recipe.batch, training.phases, _unusual(training)])
        before, step = self.of_losses.get(what, (pair, None))
        if step is not None and (ratio := self.ratios.get((before, pair))):
            return step._replace(seconds=ratio * step.seconds, asking=ratio * step.asking)
        own = self.of(training)
        if step is not None:
            self.ratios[before, pair] = own.seconds / step.seconds
        self.of_losses.setdefault(what, (pair, own))
        return own


def _kept(file: Path) -> dict[str, StepPace]:
    """The paces of a file by training, without those that no step can have."""
    try:
        paces = {str(key): StepPace(*map(float, pace)) for key, pace in read_json(file).items()}
    except (OSError, ValueError, TypeError, AttributeError, OverflowError):
        return {}
    return {
        key: pace
        for key, pace in paces.items()
        if 0 < pace.seconds < math.inf and 0 <= pace.asking < math.inf
    }


def _same_pace(training: Training) -> str:
    """Equal for trainings whose steps take as long on this machine: they differ in their seed at most."""
    ground = training.ground
    versions = [__version__, environment(ground.machine, training.threads)]
    models = [each.key["model"] for each in (training, *training.teachers)]
    about = [training.label, training.kind, repr(training.recipe), repr(training.phases)]
    return fingerprint([versions, models, about, ground.data.image_shape, *_unusual(training)])


def _unusual(training: Training) -> list[dict[str, Any]]:
    """What else a step's time depends on: settings of the runtime and code of the user's own, as far as it is
    not as usual. So what was measured as usual by earlier versions still counts.
    """
    runtime, usual = training.ground.run.runtime, Runtime()
    settings = {key: getattr(runtime, key) for key in RUNTIME if getattr(runtime, key) != getattr(usual, key)}
    every = (training, *training.teachers)
    sources = {file: digest for each in every for file, digest in each.key.get("sources", {}).items()}
    return [found for found in (settings, sources) if found]


def of_each(trainings: Iterable[Training], paces: Paces) -> dict[Path, float]:
    """The seconds that are left of each training, by folder. Trainings that differ only in their seed are
    measured once.
    """
    steps: dict[str, tuple[StepPace, AnswersPlan | None]] = {}
    seconds: dict[Path, float] = {}
    for training in trainings:
        if training.folder in seconds:
            continue
        if not epochs_left(training):
            seconds[training.folder] = 0.0
            continue
        kind = _same_pace(training)
        if kind not in steps:
            if training.kind == "student":
                steps[kind] = paces.of_student(training), answers_plan(training)
            else:
                steps[kind] = paces.of(training), None
        seconds[training.folder] = seconds_left(training, *steps[kind])
    return seconds
