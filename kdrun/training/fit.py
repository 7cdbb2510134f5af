"""`fit`: the loop that trains a teacher, a student or a control. It knows no method, no data set and no
device.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch

from kdrun.errors import KdrunError
from kdrun.training.checkpoint import Best, Checkpoint, Position
from kdrun.training.learning_rate import Rates, learning_rate
from kdrun.training.plan import Drawing, RowSet, epoch_plan
from kdrun.training.step import Step
from kdrun.training.tripwires import Tripwires


class Watcher(Protocol):
    """Who is told how a training goes."""

    def steps(self, done: int) -> None:
        """So many steps of the whole training are done."""

    def epoch(self, row: dict[str, Any]) -> None:
        """An epoch is done; `row` is its line of metrics.jsonl."""


@dataclass(frozen=True)
class Course:
    """What a training is, besides its step: how long, over which rows, at which rate.

    validate: scores of the model on validation data (`top1` in percent, `nll` in nats), empty where there are
    none. diagnose: what else an epoch's line of metrics.jsonl is to hold.
    """

    stage: str
    seed: int
    epochs: int
    row_set: RowSet
    views: Drawing
    rates: Rates
    validate: Callable[[], dict[str, float]]
    diagnose: Callable[[], dict[str, Any]] = dict


def fit(course: Course, step: Step, checkpoint: Checkpoint, position: Position, watcher: Watcher) -> float:
    """Trains the step's one learner from `position` to the end of the course. Returns the seconds it took in
    all.

    Raises KdrunError where a loss is not finite, and what `kdrun.training.tripwires` raises; the last state
    written before is kept.
    """
    learner, device, steps = step.learners[0], step.lr.device, course.row_set.steps
    started = time.monotonic() - position.seconds
    first, wires = position.step, Tripwires(step)
    rate = partial(learning_rate, course.rates, steps=course.epochs * steps, steps_per_epoch=steps)
    for epoch in range(position.epoch, course.epochs):
        plan = epoch_plan(course.seed, epoch, course.row_set, course.views, device)
        step.teacher.prepare(plan)
        learner.mix.advance(epoch)
        learner.model.train()
        learner.mix.train()
        wires.arm()
        for number, rows in enumerate(plan.batches(first), first):
            done = epoch * steps + number
            step.lr.fill_(rate(done))
            step(rows)
            wires.passed()
            watcher.steps(done + 1)
            checkpoint.save_within(Position(epoch, number + 1, time.monotonic() - started))
        first = 0
        loss, terms = learner.read_sums()
        _check_finite(loss, terms, epoch)
        wires.check(epoch)
        validation = course.validate()
        _keep_best(checkpoint, epoch, validation)
        seconds = time.monotonic() - started
        watcher.epoch(
            {
                "stage": course.stage,
                "epoch": epoch + 1,
                "epochs": course.epochs,
                "lr": rate((epoch + 1) * steps - 1),
                "loss": loss,
                "terms": terms,
                "validation": validation,
                "seconds": round(seconds, 3),
            }
            | course.diagnose()
        )
        checkpoint.save_after_epoch(Position(epoch + 1, 0, seconds), last=epoch + 1 == course.epochs)
    wires.finish()
    return time.monotonic() - started if position.epoch < course.epochs else position.seconds


def _check_finite(loss: float, terms: dict[str, float], epoch: int) -> None:
    broken = [name for name, value in terms.items() if not math.isfinite(value)]
    if broken or not math.isfinite(loss):
        key = f"loss.{broken[0]}" if broken else "loss"
        problem = f"not finite in epoch {epoch + 1}; the last good state is kept. A lower recipe lr may help"
        raise KdrunError(key, None, problem)


def _keep_best(checkpoint: Checkpoint, epoch: int, validation: dict[str, float]) -> None:
    if not validation or (checkpoint.best and validation["top1"] <= checkpoint.best.top1):
        return
    weights = checkpoint.learner.model.state_dict()
    copy = {name: torch.clone(tensor.detach()) for name, tensor in weights.items()}
    checkpoint.best = Best(epoch + 1, validation["top1"], copy)
