"""Tripwires: checks during every training. The first that fails stops the run, with its name.

Each term must reach the student; the teacher must not change; no term may own a part of the teacher.
`kdrun.training.pulls` checks that no term changes its inputs, `kdrun.models.taps` that taps fire.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from kdrun.errors import KdrunError
from kdrun.training.pulls import pulls, undisturbed
from kdrun.training.step import Learner, Stepping
from kdrun.types import UNLABELLED, Rows


class Tripwires:
    """All tripwires of a step. Raises KdrunError at once if a term owns a part of the teacher."""

    def __init__(self, step: Stepping) -> None:
        self.frozen = tuple(map(Frozen, step.teacher.models()))
        self.reaches = tuple(Reach(step, learner) for learner in step.learners)
        for learner in step.learners:
            for model in step.teacher.models():
                refuse_shared(learner, model)

    def begin(self, epoch: int) -> None:
        """Called before an epoch, counted from 0."""
        for reach in self.reaches:
            reach.begin(epoch)

    def look(self, done: int, rows: Sequence[Rows]) -> None:
        """Called before each step. done: steps since the epoch began. rows: of the step, by stream."""
        for reach in self.reaches:
            reach.look(done, rows)

    def check(self, epoch: int) -> None:
        """Called after an epoch. Raises KdrunError."""
        for reach in self.reaches:
            reach.check(epoch)
        for frozen in self.frozen:
            frozen.check(closely=False)

    def finish(self) -> None:
        """Called after the last epoch. Raises KdrunError."""
        for frozen in self.frozen:
            frozen.check(closely=True)


class Reach:
    """Whether each term has a gradient on the model of a learner.

    Gradients are taken on an epoch's first batch, and after 1, 2, 4, 8 ... steps as long as one is zero. This
    is done in the first epoch, after 1, 2, 4, 8 ... epochs, and in every epoch as long as a term has never
    had a gradient. It does not change the bits of the training.
    silent: positions of the terms that should reach the student and have not in this epoch. reached: of those
    that have in any epoch. judged: of those that had rows in a batch of this epoch.
    """

    def __init__(self, step: Stepping, learner: Learner) -> None:
        self.step, self.learner = step, learner
        self.silent, self.reached, self.judged = set[int](), set[int](), set[int]()

    def begin(self, epoch: int) -> None:
        terms = enumerate(self.learner.mix.terms)
        self.silent = {at for at, term in terms if term.loss.reaches_student and term.weight.at(epoch)}
        self.judged = set()
        if not power_of_two(epoch) and self.silent <= self.reached:
            self.silent = set()

    def look(self, done: int, rows: Sequence[Rows]) -> None:
        if not self.silent or not power_of_two(done):
            return
        own = rows[self.learner.stream]
        copied = Rows(own.index.clone(), own.view)  # `Images` know the rows of the next step by their memory
        batch, teacher = self.step.given(self.learner, copied)
        labelled = bool((batch.labels != UNLABELLED).any())
        terms = {at: self.learner.mix.terms[at] for at in sorted(self.silent)}
        with undisturbed(self.learner, 0):
            by_term = zip(terms, pulls(self.learner, batch, teacher, list(terms.values())), strict=True)
            reached = {at for at, pull in by_term if pull.norm() != 0}
        self.judged |= {at for at, term in terms.items() if labelled or term.loss.uses_unlabelled}
        self.silent -= reached
        self.reached |= reached

    def check(self, epoch: int) -> None:
        mix = self.learner.mix
        for position in sorted(self.silent & self.judged):
            problem = (
                f"its gradient on the student is exactly zero in epoch {epoch + 1}, on every batch that was "
                "looked at, so it teaches nothing. Is a layer that it reads dead, or not trained?"
            )
            raise KdrunError(f"{mix.key}.{mix.names[position]}", None, problem)


def power_of_two(number: int) -> bool:
    """Whether a number is 0, 1, 2, 4, 8 ..."""
    return number & (number - 1) == 0


class Frozen:
    """A model that must not change: after each epoch by its tensors' versions, at the end by checksums."""

    def __init__(self, model: nn.Module) -> None:
        self.model, self.tensors = model, [tensor for _, tensor in _tensors(model)]
        self.versions, self.sums = self._versions(), frozen_state(model)

    def check(self, closely: bool) -> None:
        """Raises KdrunError with the tensor that changed. closely: whatever changes torch has counted."""
        versions = self._versions()
        if not closely and versions == self.versions:
            return
        self.versions, sums = versions, frozen_state(self.model)
        names = [name for name, _ in _tensors(self.model)]
        if sums.shape != self.sums.shape:
            raise KdrunError("teacher", None, "it gained or lost a parameter while the student was trained")
        changed = (sums != self.sums).any(1) & ~(sums.isnan() & self.sums.isnan()).all(1)
        for position in changed.nonzero().flatten().tolist():
            problem = f"{names[position]} changed while the student was trained"
            raise KdrunError("teacher", None, problem)

    def _versions(self) -> list[int]:
        return [tensor._version for tensor in self.tensors]


def frozen_state(model: nn.Module) -> Tensor:
    """Checksums of all parameters and buffers, (tensors, 2) float64."""
    sums = torch.zeros(0, 2, dtype=torch.float64)
    for _, tensor in _tensors(model):
        value = tensor.detach().to("cpu", torch.float64)
        sums = torch.cat((sums, torch.stack((value.sum(), value.square().sum()))[None]))
    return sums


def refuse_shared(learner: Learner, teacher: nn.Module) -> None:
    """Raises KdrunError if an adapter of a term, or a weight that is trained, is the teacher's own tensor."""
    theirs = {_place(tensor): name for name, tensor in _tensors(teacher) if tensor.numel()}
    for name, adapter in learner.mix.losses.named_parameters():
        if layer := theirs.get(_place(adapter)):
            term, _, path = name.partition(".")
            raise KdrunError(f"loss.{term}", None, f"its {path} is {layer} of the teacher, not a copy")
    for trained in learner.optimiser.parameters:
        if layer := theirs.get(_place(trained)):
            raise KdrunError("teacher", None, f"the student trains {layer} of the teacher, not a copy")


def _place(tensor: Tensor) -> int:
    """The address of the tensor's memory: views of one tensor have the same."""
    return tensor.untyped_storage().data_ptr()


def _tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Parameters and buffers by their names in the model itself, without the taps around it."""
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        yield name.removeprefix("model."), tensor
