"""Weighted soft labels: soft targets count less for images that the student knows better than the teacher.

Zhou, Song, Chen, Zhou, Wang, Yuan, Zhang, "Rethinking Soft Labels for Knowledge Distillation: A Bias-Variance
Tradeoff Perspective", ICLR 2021, https://arxiv.org/abs/2102.00650

Departures: the hard labels are a term of their own; rows without a label, for which there is no weight, do
not count. The soft part is a cross-entropy, so it is not 0 if student equals teacher.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from kdrun.losses.numeric import show, widen
from kdrun.losses.paired import LogitsLoss
from kdrun.types import UNLABELLED, Batch, Outputs

EPSILON = 1e-7


def row_weights(student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    """(N,): 1 - exp(-CE(student) / CE(teacher)) with the hard labels, without gradient."""
    ours, theirs = (
        F.cross_entropy(widen(logits.detach()), labels, ignore_index=UNLABELLED, reduction="none")
        for logits in (student, teacher)
    )
    return 1 - torch.exp(-(ours / (theirs + EPSILON)).clamp(min=0))


def wsld(student: Tensor, teacher: Tensor, labels: Tensor, temperature: Tensor | float) -> Tensor:
    """(N,): T^2 times the weighted cross-entropy with soft targets of logits (N, K); 0 without a label."""
    log_student = F.log_softmax(widen(student) / temperature, dim=1)
    p_teacher = F.softmax(widen(teacher.detach()) / temperature, dim=1)
    rows = -(p_teacher * log_student).sum(dim=1) * row_weights(student, teacher, labels)
    return rows * temperature**2


class WSLD(LogitsLoss):
    """`wsld` of the logits."""

    uses_unlabelled = False

    def __init__(self, temperature: float = 4.0) -> None:
        super().__init__()
        self.temperature = self.hold("temperature", temperature, above=0)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        return wsld(student.logits, teacher.logits, batch.labels, self.temperature)

    def formula(self) -> str:
        return f"WSLD(T={show(self.temperature)})"
