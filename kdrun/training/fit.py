"""`fit`: the loop that trains any models, one or several. It knows no method, no data set and no device."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from kdrun.errors import KdrunError
from kdrun.training.checkpoint import Best, Checkpoint, Position, save, save_after_epoch, save_within
from kdrun.training.learning_rate import Rates, learning_rate
from kdrun.training.plan import DrawnViews, RowSet, epoch_plan
from kdrun.training.step import Learner, Stepping
from kdrun.training.tripwires import Tripwires, power_of_two


class Stopped(Exception):
    """Raised by a watcher that ends a training early. What was trained can be continued from its state."""


class Watcher(Protocol):
    """Follows a training."""

    def begin(self, epochs: int, steps: int, done: int) -> None:
        """Called when it starts or continues. steps: of an epoch. done: steps of the training so far."""

    def steps(self, done: int) -> None:
        """Called after a step. done: steps of the training so far."""

    def epoch(self, row: dict[str, Any]) -> None:
        """Called after an epoch. row: its line of metrics.jsonl. May raise Stopped."""


@dataclass(frozen=True)
class Course:
    """The part that trainings of one loop share. epochs: how many there are. length: the epochs over which
    the learning rate is scheduled. until: this part of the training ends before that epoch.
    """

    epochs: int
    length: int
    row_set: RowSet
    views: DrawnViews
    rates: Rates
    until: int | None = None

    def rate(self, done: int, own: Rates | None = None) -> float:
        """The learning rate after `done` steps. own: of a learner with rates of its own."""
        steps = self.row_set.steps
        return learning_rate(self.rates if own is None else own, done, self.length * steps, steps)


@dataclass(frozen=True)
class Strand:
    """One of the trainings that a loop runs together. stage: teacher, student, control. seed: of the order
    and views of its images. learners: the model to be trained, and peers that learn with it. validate:
    returns the model's scores on validation data (`top1` in percent, `nll` in nats), empty if there is none.
    diagnose: returns further entries of the epoch's line of metrics.jsonl.
    """

    stage: str
    seed: int
    learners: tuple[Learner, ...]
    checkpoint: Checkpoint
    watcher: Watcher
    validate: Callable[[], dict[str, float]]
    diagnose: Callable[[], dict[str, Any]] = dict


def fit(course: Course, step: Stepping, strands: Sequence[Strand], position: Position) -> float:
    """Trains the learners of all strands, those of the step, from `position` to the end of this part of the
    course. Returns the seconds that it has taken so far. Raises KdrunError for a loss that is not finite,
    Stopped if a watcher does, and the errors of `kdrun.training.tripwires`. Earlier states stay.
    """
    started, per_epoch, wires = time.monotonic() - position.seconds, course.row_set.steps, Tripwires(step)
    until = course.epochs if course.until is None else course.until
    states = [strand.checkpoint for strand in strands]
    for strand in strands:
        strand.watcher.begin(course.epochs, per_epoch, position.epoch * per_epoch + position.step)
    for epoch in range(position.epoch, until):
        first = position.step if epoch == position.epoch else 0
        for number in _steps(course, step, _seeds(strands), wires, epoch, first):
            done = epoch * per_epoch + number
            now = Position(epoch, number, time.monotonic() - started)
            for strand in strands:
                if power_of_two(done) or number == per_epoch:
                    _check_finite(strand, done, course)
                strand.watcher.steps(done)
            save_within(states, now)
        wires.check(epoch)
        for strand in strands:
            rate = course.rate((epoch + 1) * per_epoch - 1, strand.learners[0].rates)
            about = {"epoch": epoch + 1, "epochs": course.epochs, "lr": rate}
            (loss, terms), *_ = [learner.read_sums() for learner in strand.learners]  # which clears the sums
            row = {"stage": strand.stage} | about | {"loss": loss, "terms": terms}
            row["validation"] = _validated(strand, epoch + 1)
            now = Position(epoch + 1, 0, time.monotonic() - started)
            _tell(strand, row | {"seconds": round(now.seconds, 3)} | strand.diagnose(), states, now)
        save_after_epoch(states, now, last=epoch + 1 == until)
    wires.finish()
    return time.monotonic() - started if position.epoch < until else position.seconds


def _tell(strand: Strand, row: dict[str, Any], states: Sequence[Checkpoint], now: Position) -> None:
    """Hands an epoch's row to the watcher. If that stops the training, the states are written before."""
    try:
        strand.watcher.epoch(row)
    except Stopped:
        save(states, now)
        raise


def _seeds(strands: Sequence[Strand]) -> list[int]:
    """The seed of each stream, in their order."""
    seeds = {learner.stream: strand.seed for strand in strands for learner in strand.learners}
    return [seeds[stream] for stream in sorted(seeds)]


def _steps(
    course: Course, step: Stepping, seeds: Sequence[int], wires: Tripwires, epoch: int, first: int
) -> Iterator[int]:
    """Does the steps of an epoch from step `first` on, and yields after each how many are done."""
    plans = [epoch_plan(seed, epoch, course.row_set, course.views, step.lr.device) for seed in seeds]
    step.prepare(plans, first)
    for learner in step.learners:
        learner.begin(epoch)
    wires.begin(epoch)
    for number, rows in enumerate(zip(*(plan.batches(first) for plan in plans), strict=True), first):
        _set_rates(course, step, epoch * course.row_set.steps + number)
        step.before(number)
        wires.look(number - first, rows)
        step(rows)
        yield number + 1


def _set_rates(course: Course, step: Stepping, done: int) -> None:
    """Sets the rate of the next step, and of each learner that has its own."""
    step.lr.fill_(course.rate(done))
    for learner in step.learners:
        if learner.lr is not None:
            learner.lr.fill_(course.rate(done, learner.rates))


def _check_finite(strand: Strand, done: int, course: Course) -> None:
    """Raises KdrunError that names the training and its first terms that were not finite."""
    for learner in strand.learners:
        broken = [f"{learner.mix.key}.{name}" if name else learner.mix.key for name in learner.not_finite()]
        if broken:
            whose = "" if learner is strand.learners[0] else "its peer's "
            what = f"{whose}{' and '.join(broken)} {'are' if broken[1:] else 'is'} not finite"
            kept = "; the last good state is kept" if strand.checkpoint.path.exists() else ""
            rate = course.rate(done - 1, learner.rates)
            problem = f"{what} by step {done}, at a learning rate of {rate:.3g}{kept}. A lower one may help"
            raise KdrunError(strand.stage, None, problem)


def _validated(strand: Strand, epoch: int) -> dict[str, float]:
    """Scores after an epoch; the weights of the best one so far are kept."""
    scores, checkpoint = strand.validate(), strand.checkpoint
    if scores and (not checkpoint.best or scores["top1"] > checkpoint.best.top1):
        weights = checkpoint.learners[0].model.state_dict()
        copy = {name: torch.clone(tensor.detach()) for name, tensor in weights.items()}
        checkpoint.best = Best(epoch, scores["top1"], copy)
    return scores
