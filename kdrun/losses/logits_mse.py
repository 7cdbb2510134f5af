"""Squared difference of the logits, before any softmax.

Ba, Caruana, "Do Deep Nets Really Need to be Deep?", NIPS 2014, https://arxiv.org/abs/1312.6184

Departure: mean over all entries in place of half the squared norm of a row (K / 2 times as much).
"""

from __future__ import annotations

from torch import Tensor

from kdrun.losses.numeric import mse, widen
from kdrun.losses.paired import LogitsLoss
from kdrun.types import Batch, Outputs


def logits_mse(student: Tensor, teacher: Tensor) -> Tensor:
    """(N,): mean over classes of the squared difference. student, teacher: logits (N, K)."""
    return mse(widen(student), widen(teacher.detach()))


class LogitsMSE(LogitsLoss):
    """`logits_mse` of the logits."""

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        return logits_mse(student.logits, teacher.logits)

    def formula(self) -> str:
        return "mse(logits)"
