"""`fit`: the loop that trains a teacher, a student or a control, or several of them at once. It knows no
method, no data set and no device.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch

from kdrun.errors import KdrunError
from kdrun.training.checkpoint import Best, Checkpoint, Position
from kdrun.training.learning_rate import Rates, learning_rate
from kdrun.training.plan import Drawing, RowSet, epoch_plan
from kdrun.training.step import Learner, Stepping
from kdrun.training.tripwires import Tripwires


class Watcher(Protocol):
    """Who is told how a training goes."""

    def begin(self, epochs: int, steps: int, done: int) -> None:
        """It starts, or goes on, with `done` steps done; an epoch has so many."""

    def steps(self, done: int) -> None:
        """So many steps of the whole training are done."""

    def epoch(self, row: dict[str, Any]) -> None:
        """An epoch is done; `row` is its line of metrics.jsonl."""


@dataclass(frozen=True)
class Course:
    """What trainings that run together have in common: how long, over which rows, at which rate.

    epochs: how many are run. length: for how many the rates are laid out. until: before which epoch a part of
    it ends that is run by itself.
    """

    epochs: int
    length: int
    row_set: RowSet
    views: Drawing
    rates: Rates
    until: int | None = None


@dataclass(frozen=True)
class Strand:
    """One training of those that a loop runs together.

    seed: of the order of its images and of their views. learners: the one that is trained for, and peers that
    learn along with it. validate: scores of the model on validation data (`top1` in percent, `nll` in nats),
    empty where there are none. diagnose: what else an epoch's line of metrics.jsonl is to hold.
    """

    stage: str
    seed: int
    learners: tuple[Learner, ...]
    checkpoint: Checkpoint
    watcher: Watcher
    validate: Callable[[], dict[str, float]]
    diagnose: Callable[[], dict[str, Any]] = dict


def fit(course: Course, step: Stepping, strands: Sequence[Strand], position: Position) -> float:
    """Trains the learners of all strands, which are those of the step, from `position` to the end of the
    course, or of this part of it. Returns the seconds it took in all.

    Raises KdrunError where a loss is not finite, and what `kdrun.training.tripwires` raises; the last states
    written before are kept.
    """
    started, device = time.monotonic() - position.seconds, step.lr.device
    per_epoch, wires = course.row_set.steps, Tripwires(step)
    until = course.epochs if course.until is None else course.until
    rate = partial(learning_rate, course.rates, steps=course.length * per_epoch, steps_per_epoch=per_epoch)
    for strand in strands:
        strand.watcher.begin(course.epochs, per_epoch, position.epoch * per_epoch + position.step)
    for epoch in range(position.epoch, until):
        first = position.step if epoch == position.epoch else 0
        plans = [epoch_plan(s, epoch, course.row_set, course.views, device) for s in _seeds(strands)]
        step.prepare(plans, first)
        for learner in step.learners:
            learner.begin(epoch)
        wires.begin(epoch)
        for number, rows in enumerate(zip(*(plan.batches(first) for plan in plans), strict=True), first):
            done = epoch * per_epoch + number
            step.lr.fill_(rate(done))
            step.before(number)
            wires.look(number - first, rows)
            step(rows)
            now = Position(epoch, number + 1, time.monotonic() - started)
            for strand in strands:
                strand.watcher.steps(done + 1)
                strand.checkpoint.save_within(now)
        losses = [_losses(strand, epoch + 1) for strand in strands]
        wires.check(epoch)
        about = {"epoch": epoch + 1, "epochs": course.epochs, "lr": rate((epoch + 1) * per_epoch - 1)}
        for strand, loss in zip(strands, losses, strict=True):
            validation = _validated(strand, epoch + 1)
            now = Position(epoch + 1, 0, time.monotonic() - started)
            row = {"stage": strand.stage} | about | loss | {"validation": validation}
            strand.watcher.epoch(row | {"seconds": round(now.seconds, 3)} | strand.diagnose())
            strand.checkpoint.save_after_epoch(now, last=epoch + 1 == until)
    wires.finish()
    return time.monotonic() - started if position.epoch < until else position.seconds


def _seeds(strands: Sequence[Strand]) -> list[int]:
    """The seed of each stream, in their order."""
    seeds = {learner.stream: strand.seed for strand in strands for learner in strand.learners}
    return [seeds[stream] for stream in sorted(seeds)]


def _losses(strand: Strand, epoch: int) -> dict[str, Any]:
    """Mean loss and terms of an epoch, of the learner that is trained for."""
    sums = [learner.read_sums() for learner in strand.learners]
    for loss, terms in sums:
        _check_finite(loss, terms, epoch)
    return {"loss": sums[0][0], "terms": sums[0][1]}


def _check_finite(loss: float, terms: dict[str, float], epoch: int) -> None:
    broken = [name for name, value in terms.items() if not math.isfinite(value)]
    if broken or not math.isfinite(loss):
        key = f"loss.{broken[0]}" if broken else "loss"
        problem = f"not finite in epoch {epoch}; the last good state is kept. A lower recipe lr may help"
        raise KdrunError(key, None, problem)


def _validated(strand: Strand, epoch: int) -> dict[str, float]:
    """Scores after an epoch; the weights of the best so far are kept."""
    scores, checkpoint = strand.validate(), strand.checkpoint
    if scores and (not checkpoint.best or scores["top1"] > checkpoint.best.top1):
        weights = checkpoint.learners[0].model.state_dict()
        copy = {name: torch.clone(tensor.detach()) for name, tensor in weights.items()}
        checkpoint.best = Best(epoch, scores["top1"], copy)
    return scores
