"""How hard each term of a mix pulls at a model: the gradient of its value on one batch.

`kdrun check` shows it for the first step, `diagnostics=gradients` after every epoch, on a fixed batch: that
does not change the training, random numbers are restored and `.grad` is not written. The tripwires stop a
training if a term does not pull at all.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

from kdrun.errors import KdrunError
from kdrun.eval_mode import evaluating
from kdrun.losses.cross_entropy import CrossEntropy
from kdrun.losses.mix import Mix, Term
from kdrun.machine import widest
from kdrun.schedule import Schedule
from kdrun.training.plan import DrawnViews
from kdrun.training.seeds import generator, global_seed
from kdrun.training.step import Images, Learner
from kdrun.training.teachers import Teacher, uncounted
from kdrun.types import UNLABELLED, Batch, Outputs, Rows

ROWS = 64
"""The most images of the fixed batch."""

LABELS = Term("labels", CrossEntropy(), Schedule(1.0, 1.0))
"""The term whose direction the others are compared with: plain cross-entropy on the labelled images."""


class Pull(NamedTuple):
    """An unweighted term on a batch. value: (). gradient: of each trained weight, None if not reached."""

    value: Tensor
    gradient: tuple[Tensor | None, ...]

    def norm(self) -> float:
        """The length of the gradient over all weights."""
        return math.sqrt(self.dot(self))

    def dot(self, other: Pull) -> float:
        """The inner product of two gradients, summed in float64 (on mps, which has none, in float32)."""
        pairs = zip(self.gradient, other.gradient, strict=True)
        products = [(widest(a) * widest(b)).sum() for a, b in pairs if a is not None and b is not None]
        return torch.stack(products).sum().item() if products else 0.0


def pulls(
    learner: Learner, batch: Batch, teacher: Outputs, terms: Sequence[Term] | None = None
) -> list[Pull]:
    """Each term's pull on a batch, in the current mode of model and mix. teacher: its outputs. terms: None
    for the mix's. Raises KdrunError for a term that writes into the outputs, which others read.
    """
    mix, weights = learner.mix, [weight for weight in learner.model.parameters() if weight.requires_grad]
    with learner.precision():
        student = learner.tapped.forward(batch.images)  # a call could compile it again, for this mode
    values = [_value(mix, term, student, teacher, batch) for term in terms or mix.terms]
    return [Pull(value.detach(), _gradient(value, weights)) for value in values]


@contextmanager
def undisturbed(learner: Learner, seed: int) -> Iterator[None]:
    """Within the block, model and mix are in evaluation mode (no dropout, running statistics, memory banks
    that do not change) and random numbers come from the seed. Both are restored after it.
    """
    with evaluating(learner.model), evaluating(learner.mix), global_seed(seed, "gradients"):
        yield


def _value(mix: Mix, term: Term, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
    given = [*_named("student", student), *_named("teacher", teacher)]
    versions = [tensor._version for _, tensor in given]
    value = mix.value(term, student, teacher, batch)
    for (name, tensor), version in zip(given, versions, strict=True):
        if tensor._version != version:
            problem = f"it changes {name} in place, which other terms and the gradient read"
            raise KdrunError(f"{mix.key}.{term.name}", None, problem)
    return value


def _gradient(value: Tensor, weights: Sequence[Tensor]) -> tuple[Tensor | None, ...]:
    if not value.requires_grad:
        return (None,) * len(weights)
    return torch.autograd.grad(value, weights, retain_graph=True, allow_unused=True)


def _named(model: str, outputs: Outputs) -> Iterator[tuple[str, Tensor]]:
    """The outputs by name, such as `logits of the student`."""
    head = {"classifier": outputs.classifier.weight} if outputs.classifier else {}
    for layer, tensor in (outputs.named() | head).items():
        yield f"{layer} of the {model}", tensor


def fixed_batch(images: Images, labels: Tensor, rows: Tensor, views: DrawnViews, seed: int) -> Batch:
    """At most ROWS rows of the training, those with a label first, in drawn views. labels: (N,) int64 of the
    whole training part, on the device. rows: (R,) int64.
    """
    draw = generator(seed, "gradients")
    order = rows[torch.randperm(len(rows), generator=draw)].to(labels.device)
    unlabelled = (labels[order] == UNLABELLED).to(torch.int8)
    index = order[unlabelled.argsort(stable=True)][:ROWS]
    chosen = Rows(index, views.draw(draw, len(index)).to(labels.device))
    return Batch(images(chosen), labels[index], chosen)


class GradientDiagnostics:
    """Called after an epoch; returns `{term: {norm, cosine}}`. norm: of the weighted term's gradient with
    respect to the student's parameters. cosine: of the angle to the gradient of LABELS; absent if one is 0.
    teacher: one that answers for any images, not only for those of the next step.
    """

    def __init__(self, learner: Learner, batch: Batch, teacher: Teacher, seed: int) -> None:
        self.learner, self.batch, self.teacher, self.seed = learner, batch, teacher, seed

    def __call__(self) -> dict[str, dict[str, float]]:
        mix = self.learner.mix
        with undisturbed(self.learner, self.seed), uncounted(self.teacher):
            teacher = self.teacher(self.batch)
            reference, *terms = pulls(self.learner, self.batch, teacher, [LABELS, *mix.terms])
        weights: list[float] = mix.weights.tolist()
        described = (_described(pull, weight, reference) for pull, weight in zip(terms, weights, strict=True))
        return dict(zip(mix.names, described, strict=True))


def _described(pull: Pull, weight: float, reference: Pull) -> dict[str, float]:
    norm, other = pull.norm(), reference.norm()
    figures = {"norm": float(f"{weight * norm:.6g}")}
    if norm > 0 and other > 0:
        figures["cosine"] = round(pull.dot(reference) / (norm * other), 4)
    return figures
