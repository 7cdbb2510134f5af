"""Mutual learning: the teacher of each of two learners is the other one.

Zhang, Xiang, Hospedales, Lu, "Deep Mutual Learning", CVPR 2018, https://arxiv.org/abs/1706.00384

Departure: both learn from the other's outputs before either was updated. In the paper (algorithm 1) the
second learns from the outputs of the updated first, which takes another forward pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

import torch
from torch import Tensor

from kdrun.eval_mode import evaluating
from kdrun.training.step import Learner, Step
from kdrun.training.teachers import Teacher, each
from kdrun.types import Batch, Outputs, Rows


class Mutual:
    """A `Step` whose learners teach each other in pairs. ratio: the second's rate over the first's."""

    def __init__(self, step: Step, ratio: float = 1.0) -> None:
        self.step, self.learners, self.teacher, self.lr = step, step.learners, step.teacher, step.lr
        self.prepare, self.before, self.ratio = step.prepare, step.before, ratio

    def __call__(self, rows: Sequence[Rows]) -> None:
        batches = [self.step.batch(part) for part in rows]
        for one, other in zip(self.learners[::2], self.learners[1::2], strict=True):
            self._learn(one, other, batches[one.stream])

    def given(self, learner: Learner, rows: Rows) -> tuple[Batch, Outputs]:
        place, batch = self.learners.index(learner), self.step.batch(rows)
        return batch, Peer(self.learners[place + 1 - 2 * (place % 2)])(batch)

    def _learn(self, one: Learner, other: Learner, batch: Batch) -> None:
        with one.draws or nullcontext():
            outputs = one.student(batch.images), other.student(batch.images)
            fixed = detached(outputs[0]), detached(outputs[1])
            one.update(outputs[0], fixed[1], batch, self.lr)
            other.update(outputs[1], fixed[0], batch, self.lr * self.ratio)


class Peer(Teacher):
    """A learner as the teacher of the other, outside the steps: in evaluation mode, and left as it was."""

    kind = "peer"

    def __init__(self, learner: Learner) -> None:
        self.learner = learner

    @torch.no_grad()
    def __call__(self, batch: Batch) -> Outputs:
        with evaluating(self.learner.model):
            return self.learner.student(batch.images)


def detached(outputs: Outputs) -> Outputs:
    """The same outputs, detached from the graph of gradients."""
    head, fixed = outputs.classifier, each(outputs, Tensor.detach)
    if head is None:
        return fixed
    bias = None if head.bias is None else head.bias.detach()
    return fixed._replace(classifier=head._replace(weight=head.weight.detach(), bias=bias))
