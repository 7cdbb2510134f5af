"""Tripwires: what must hold in every training, watched while it runs. What breaks stops the run by name.

Watched are: each term reaches the student; no term changes what it was given; the teacher stays as it is; no
term owns a part of the teacher. A step waits for nothing but an epoch's first, after which a device is asked.
(That taps fire, and that nothing overwrites them, is seen by `kdrun.models.taps`, in the same kind of line.)
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from kdrun.errors import KdrunError
from kdrun.losses.mix import Mix
from kdrun.training.step import Learner, Stepping
from kdrun.types import UNLABELLED, Batch, Outputs


class Tripwires:
    """All of them, for one training. Raises KdrunError at once where a term owns a part of the teacher."""

    def __init__(self, step: Stepping) -> None:
        self.frozen = tuple(map(Frozen, step.teacher.models()))
        self.reaches = tuple(Reach(learner.mix) for learner in step.learners)
        for learner in step.learners:
            for model in step.teacher.models():
                refuse_shared(learner, model)

    def arm(self) -> None:
        """Before an epoch's first step."""
        for reach in self.reaches:
            reach.arm()

    def passed(self) -> None:
        """After each step."""
        for reach in self.reaches:
            reach.passed()

    def check(self, epoch: int) -> None:
        """After an epoch, counted from 0. Raises KdrunError."""
        for reach in self.reaches:
            reach.check(epoch)
        for frozen in self.frozen:
            frozen.check(closely=False)

    def finish(self) -> None:
        """After the last epoch. Raises KdrunError."""
        for frozen in self.frozen:
            frozen.check(closely=True)


class Reach:
    """Whether each term of a mix sends a gradient into the student's Outputs, if only once in an epoch.

    It listens from an epoch's first step until all have; the device is asked for that after 1, 2, 4, 8 ...
    steps. seen, reached: (n_terms,) bool on the device: whether there were rows that the term has a use for,
    and a gradient other than zero. arrived, labels: of the step at hand, terms' positions with gradients, and
    (N,).
    """

    labels: Tensor

    def __init__(self, mix: Mix) -> None:
        self.mix, self.steps = mix, 0
        device = mix.weights.device
        self.claims = torch.tensor([term.loss.reaches_student for term in mix.terms], device=device)
        self.seen, self.reached = torch.zeros_like(self.claims), torch.zeros_like(self.claims)
        self.arrived: list[tuple[int, Tensor]] = []

    def arm(self) -> None:
        self.steps = 0
        self.seen.zero_()
        self.reached.zero_()
        self.mix.watch = self.watch

    def passed(self) -> None:
        if self.mix.watch is None:
            return
        self._note()
        self.arrived.clear()
        self.steps += 1
        power_of_two = self.steps & (self.steps - 1) == 0
        if power_of_two and not self._silent().any():
            self.mix.watch = None

    def check(self, epoch: int) -> None:
        if self.mix.watch is None:
            return
        self.mix.watch = None
        for position in (self._silent() & self.seen).nonzero().flatten().tolist():
            problem = (
                f"its gradient on the student is exactly zero in all of epoch {epoch + 1}, so it teaches "
                "nothing. Is what it reads dead, or not trained?"
            )
            raise KdrunError(f"loss.{self.mix.names[position]}", None, problem)

    @contextmanager
    def watch(self, position: int, student: Outputs, teacher: Outputs, batch: Batch) -> Iterator[None]:
        """Around the computation of one term on its own nodes of the student's Outputs."""
        term = self.mix.terms[position]
        given = [("student", *pair) for pair in _named(student)]
        arrive = partial(self._arrive, position)
        for _, _, tensor in given:
            if tensor.requires_grad:
                tensor.register_hook(arrive)  # type: ignore[no-untyped-call]
        given += [("teacher", *pair) for pair in _named(teacher)]
        versions = [tensor._version for _, _, tensor in given]
        self.labels = batch.labels
        yield
        for (whose, layer, tensor), version in zip(given, versions, strict=True):
            if tensor._version != version:
                problem = (
                    f"it changes {layer} of the {whose} in place, which other terms and the gradient read"
                )
                raise KdrunError(f"loss.{term.name}", None, problem)

    def _arrive(self, position: int, gradient: Tensor | None) -> None:
        if gradient is not None:  # as it is for what a compiled model gives and no term reads
            self.arrived.append((position, gradient))

    def _silent(self) -> Tensor:
        """(n_terms,) bool: which of those that have a weight and claim the student have not reached it."""
        return (self.mix.weights > 0) & self.claims & ~self.reached

    def _note(self) -> None:
        """Keeps, on the device, what this step says."""
        labelled = (self.labels != UNLABELLED).any()
        for position, term in enumerate(self.mix.terms):
            self.seen[position] |= True if term.loss.uses_unlabelled else labelled
        for position, gradient in self.arrived:
            self.reached[position] |= gradient.any()


class Frozen:
    """A model that must not change: versions of its tensors tell after an epoch, checksums at the end."""

    def __init__(self, model: nn.Module) -> None:
        self.model, self.tensors = model, [tensor for _, tensor in _tensors(model)]
        self.versions, self.sums = self._versions(), frozen_state(model)

    def check(self, closely: bool) -> None:
        """Raises KdrunError with the name of a tensor that is not what it was. closely: even where nothing
        was written by torch's own operations.
        """
        versions = self._versions()
        if not closely and versions == self.versions:
            return
        self.versions, sums = versions, frozen_state(self.model)
        names = [name for name, _ in _tensors(self.model)]
        if sums.shape != self.sums.shape:
            raise KdrunError(
                "teacher", None, "it has gained or lost a parameter while the student was trained"
            )
        changed = (sums != self.sums).any(1) & ~(sums.isnan() & self.sums.isnan()).all(1)
        for position in changed.nonzero().flatten().tolist():
            problem = f"{names[position]} changed while the student was trained"
            raise KdrunError("teacher", None, problem)

    def _versions(self) -> list[int]:
        return [tensor._version for tensor in self.tensors]


def frozen_state(model: nn.Module) -> Tensor:
    """Checksums of all parameters and buffers, (tensors, 2) float64: equal before and after a training that
    changed nothing.
    """
    sums = torch.zeros(0, 2, dtype=torch.float64)
    for _, tensor in _tensors(model):
        value = tensor.detach().to("cpu", torch.float64)
        sums = torch.cat((sums, torch.stack((value.sum(), value.square().sum()))[None]))
    return sums


def refuse_shared(learner: Learner, teacher: nn.Module) -> None:
    """Raises KdrunError where an adapter of a term, or what the optimiser trains, is the teacher's tensor."""
    theirs = {_place(tensor): name for name, tensor in _tensors(teacher) if tensor.numel()}
    for name, adapter in learner.mix.losses.named_parameters():
        if layer := theirs.get(_place(adapter)):
            term, _, path = name.partition(".")
            raise KdrunError(f"loss.{term}", None, f"its {path} is {layer} of the teacher, not a copy")
    for trained in learner.optimiser.parameters:
        if layer := theirs.get(_place(trained)):
            raise KdrunError("teacher", None, f"the student trains {layer} of the teacher, not a copy")


def _place(tensor: Tensor) -> int:
    """Where the tensor's memory begins: the same for views of it."""
    return tensor.untyped_storage().data_ptr()


def _tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Parameters and buffers under the names that the model's own weights have."""
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        yield name.removeprefix("model."), tensor


def _named(outputs: Outputs) -> Iterator[tuple[str, Tensor]]:
    """The tensors that are there, by layer name."""
    yield "logits", outputs.logits
    if outputs.embedding is not None:
        yield "embedding", outputs.embedding
    for position, stage in enumerate(outputs.stages):
        if stage is not None:
            yield f"stage:{position}", stage
    yield from outputs.layers.items()
    if outputs.classifier is not None:
        yield "classifier", outputs.classifier.weight
