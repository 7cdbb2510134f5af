"""Mutual learning: the teacher of each of two learners is the other one.

Zhang, Xiang, Hospedales, Lu, "Deep Mutual Learning", CVPR 2018, https://arxiv.org/abs/1706.00384

Departure: both learn from what the other said before either was updated. In the paper (algorithm 1) the
second learns from what the updated first says, which takes another forward pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

from torch import Tensor

from kdrun.training.plan import EpochPlan
from kdrun.training.step import Learner, Step
from kdrun.types import Batch, Outputs, Rows


class Mutual:
    """A step whose learners, two and two, teach each other; called as `Step` is.

    ratio: the learning rate of the second of each two over that of the first.
    """

    def __init__(self, step: Step, ratio: float = 1.0) -> None:
        self.step, self.learners, self.teacher, self.lr = step, step.learners, step.teacher, step.lr
        self.ratio = ratio

    def prepare(self, plans: Sequence[EpochPlan], first: int) -> None:
        """Called before an epoch with each learner's plan, and the first step to come."""
        self.step.prepare(plans, first)

    def __call__(self, rows: Sequence[Rows]) -> None:
        """One update of each learner on its rows, which are those of its peer."""
        shared: dict[int, Batch] = {}
        pairs = zip(self.learners[::2], self.learners[1::2], rows[::2], strict=True)
        for one, other, own in pairs:
            if id(own) not in shared:
                shared[id(own)] = self.step.batch(own)
            self._learn(one, other, shared[id(own)])

    def _learn(self, one: Learner, other: Learner, batch: Batch) -> None:
        precision = self.step.precision
        with one.draws or nullcontext():
            with precision():
                said = one.ask(batch.images), other.ask(batch.images)
            told = detached(said[0]), detached(said[1])
            one.update(said[0], told[1], batch, self.lr, precision)
            other.update(said[1], told[0], batch, self.lr * self.ratio, precision)


def detached(outputs: Outputs) -> Outputs:
    """The same, without a way back for gradients."""

    def cut(tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else tensor.detach()

    head = outputs.classifier
    return Outputs(
        outputs.logits.detach(),
        cut(outputs.embedding),
        tuple(map(cut, outputs.stages)),
        {name: tensor.detach() for name, tensor in outputs.layers.items()},
        None if head is None else head._replace(weight=head.weight.detach(), bias=cut(head.bias)),
    )
