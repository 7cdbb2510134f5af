"""Overhaul of feature distillation: maps before the activation, and no penalty where both sides are inactive.

Heo, Kim, Yun, Park, Kwak, Choi, "A Comprehensive Overhaul of Feature Distillation", ICCV 2019,
https://arxiv.org/abs/1904.01866

Departure: the margins are the running means of the teacher's negative responses, measured on the batches; the
paper computes the same expectation from the parameters of the teacher's batch norm. The teacher's map is
brought to the student's size. The factor 1/1000 of the authors is the term's weight.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kdrun.losses.paired import Pair, StageLoss
from kdrun.losses.regressors import Connector, resized
from kdrun.types import Batch, Outputs

LONGEST = 1000
"""After this many batches, each further one counts a thousandth in the running mean."""


def partial_l2(student: Tensor, teacher: Tensor, margin: Tensor) -> Tensor:
    """(N,): squared difference to m = max(teacher, margin), summed over an image without the elements at
    which student <= m <= 0. student, teacher: (N, C, H, W). margin: (C,), below 0.
    """
    raised = torch.maximum(teacher.detach(), margin.view(1, -1, 1, 1))
    counts = (student > raised) | (raised > 0)
    return ((student - raised).square() * counts).flatten(1).sum(1)


class Margin(nn.Module):
    """The running mean of a teacher's negative responses per channel, (C,); it moves in training only."""

    mean: Tensor
    batches: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("batches", torch.zeros(()))

    def forward(self, teacher: Tensor) -> Tensor:
        """The margins (C,) after a batch of maps (N, C, H, W)."""
        negative = teacher < 0
        count = negative.sum(dim=(0, 2, 3))
        now = torch.where(negative, teacher, 0.0).sum(dim=(0, 2, 3)) / count.clamp(min=1)
        step = 1 / (self.batches + 1).clamp(max=LONGEST)
        mean = torch.where(count > 0, self.mean + (now - self.mean) * step, self.mean)
        if self.training:
            self.mean.copy_(mean)
            self.batches.add_(1)
            return mean
        return torch.where(self.batches > 0, self.mean, mean)


class OFD(StageLoss):
    """`partial_l2` over the last `stages` stages (0: all but the stem), each half as much as the next."""

    of_the_batch, before = True, "always"

    def __init__(self, stages: int = 0) -> None:
        super().__init__(stages)
        self.connectors, self.margins = nn.ModuleList(), nn.ModuleList()

    def adapt(self, pairs: tuple[Pair, ...]) -> None:
        self.connectors = nn.ModuleList(Connector(pair.student[0], pair.teacher[0]) for pair in pairs)
        self.margins = nn.ModuleList(Margin(pair.teacher[0]) for pair in pairs)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        losses = []
        for pair, connector, margin in zip(self.pairs, self.connectors, self.margins, strict=True):
            ours, theirs = pair.read(student, teacher)
            theirs = resized(theirs, (ours.shape[2], ours.shape[3]))
            losses.append(partial_l2(connector(ours), theirs, margin(theirs)))
        return summed(losses)

    def formula(self) -> str:
        return f"OFD({self.counted})"


def summed(losses: list[Tensor]) -> Tensor:
    """The sum over stages (N,), shallow to deep: the last with weight 1, each before it half of the next."""
    return torch.stack([loss / 2**depth for depth, loss in enumerate(reversed(losses))]).sum(0)
