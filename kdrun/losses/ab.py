"""Activation boundaries: the student's neurons learn to be active, by a margin, exactly where the teacher's
are.

Heo, Lee, Yun, Choi, "Knowledge Transfer via Distillation of Activation Boundaries Formed by Hidden Neurons",
AAAI 2019, https://arxiv.org/abs/1811.03233

Departures: connectors are made only if the shapes differ. The factor 3/1000 of the toolboxes is the term's
weight. The paper trains with this loss alone, and with the labels alone after it; beside other terms it is
another method.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kdrun.losses.numeric import number
from kdrun.losses.ofd import summed
from kdrun.losses.paired import Pair, StageLoss
from kdrun.losses.regressors import MapRegressor
from kdrun.types import Batch, Outputs


def ab(student: Tensor, teacher: Tensor, margin: float = 1.0) -> Tensor:
    """(N,): squared distance to the side of the margin on which the teacher is, summed over an image.
    student, teacher: (N, C, H, W) before the activation. A teacher's 0 is inactive.
    """
    active = teacher.detach() > 0
    short = torch.where(active, margin - student, margin + student).clamp(min=0)
    return short.square().flatten(1).sum(1)


class AB(StageLoss):
    """`ab` over the last `stages` stages (0: all but the stem). Each counts half as much as the next."""

    before = "always"

    def __init__(self, stages: int = 0, margin: float = 1.0) -> None:
        super().__init__(stages)
        number("margin", margin, above=0)
        self.margin = float(margin)
        self.connectors = nn.ModuleList()

    def adapt(self, pairs: tuple[Pair, ...]) -> None:
        self.connectors = nn.ModuleList(
            nn.Identity()
            if pair.student == pair.teacher
            else MapRegressor(pair.student, pair.teacher, relu=False)
            for pair in pairs
        )

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        losses = []
        for pair, connector in zip(self.pairs, self.connectors, strict=True):
            ours, theirs = pair.read(student, teacher)
            losses.append(ab(connector(ours), theirs, self.margin))
        return summed(losses)

    def formula(self) -> str:
        return f"AB({self.counted}, margin {self.margin:g})"
