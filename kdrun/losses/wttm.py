"""Weighted transformed teacher matching: images on which the teacher is less sure count more.

Zheng, Yang, "Knowledge Distillation Based on Transformed Teacher Matching", ICLR 2024,
https://arxiv.org/abs/2402.11148

Departure: none known. The weights are not normalised, so the scale of the loss grows with the number of
classes.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from kdrun.losses.numeric import show, widen
from kdrun.losses.paired import LogitsLoss
from kdrun.losses.ttm import transformed
from kdrun.types import Batch, Outputs


def power_sum(teacher: Tensor, gamma: Tensor | float) -> Tensor:
    """(N,) sum over classes of p_teacher^gamma, the weight of a row. teacher: logits (N, K)."""
    return (gamma * F.log_softmax(widen(teacher.detach()), dim=1)).exp().sum(dim=1)


class WTTM(LogitsLoss):
    """`transformed` of the logits times `power_sum`. gamma: the paper's."""

    takes_missing = True

    def __init__(self, gamma: float = 0.1) -> None:
        super().__init__()
        self.gamma = self.hold("gamma", gamma, above=0)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        rows = transformed(student.logits, teacher.logits, self.gamma)
        return power_sum(teacher.logits, self.gamma) * rows

    def formula(self) -> str:
        return f"WTTM(gamma {show(self.gamma)})"
