"""Curriculum temperature: the temperature is learned so as to raise the student's loss, each epoch more.

Li, Li, Yang, Zhao, Song, Luo, Li, Yang, "Curriculum Temperature for Knowledge Distillation", AAAI 2023,
https://arxiv.org/abs/2211.16231

Departure: the gradient's multiplier is a schedule over epochs from 0, not from 1. As in the authors' code the
temperature lies in (lowest, lowest + span), and one temperature serves all images.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kdrun.losses.numeric import number, show
from kdrun.losses.paired import LogitsLoss
from kdrun.losses.soft_targets import soft_targets
from kdrun.types import Batch, Outputs


def learned_temperature(theta: Tensor, reversal: Tensor | float, lowest: float, span: float) -> Tensor:
    """lowest + span * sigmoid(theta), theta a scalar whose gradient is multiplied by `reversal`: -1 for
    ascent, so that the student's optimiser makes the loss larger.
    """
    fixed = theta.detach()
    return lowest + span * torch.sigmoid(fixed + reversal * (theta - fixed))


class CTKD(LogitsLoss):
    """`soft_targets` at the learned temperature."""

    takes_missing = True

    def __init__(self, reversal: float = -1.0, lowest: float = 1.0, span: float = 20.0) -> None:
        super().__init__()
        number("lowest", lowest, above=0)
        number("span", span, above=0)
        self.reversal = self.hold("reversal", reversal)
        self.lowest, self.span = float(lowest), float(span)
        self.theta = nn.Parameter(torch.ones(()))

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        temperature = learned_temperature(self.theta, self.reversal, self.lowest, self.span)
        return soft_targets(student.logits, teacher.logits, temperature)

    def formula(self) -> str:
        return (
            f"T^2 KL(teacher || student, T learned in {show(self.lowest)}..{show(self.lowest + self.span)})"
        )
