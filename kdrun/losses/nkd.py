"""Normalised knowledge distillation: soft cross-entropies of the target class and, normalised, of the other
classes.

Yang, Zeng, Yuan, Li, "From Knowledge Distillation to Self-Knowledge Distillation: A Unified Approach with
Normalized Loss and Customized Soft Labels", ICCV 2023, https://arxiv.org/abs/2303.13005

Departure: rows without a label do not count. The value is a cross-entropy, so it is not 0 if student equals
teacher. The target class always has T = 1, as in the authors' code.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from kdrun.losses.dkd import split
from kdrun.losses.numeric import show, widen
from kdrun.losses.paired import LogitsLoss
from kdrun.types import Batch, Outputs


class NkdParts(NamedTuple):
    """target: -p_teacher(y) log p_student(y). others: their cross-entropy, times T^2. Both (N,)."""

    target: Tensor
    others: Tensor


def normalised(student: Tensor, teacher: Tensor, labels: Tensor, temperature: Tensor | float) -> NkdParts:
    """Both parts of each row, meaningless without a label. Logits (N, K), labels (N,) int64."""
    student, teacher = widen(student), widen(teacher.detach())
    is_target = torch.arange(student.shape[1], device=labels.device) == labels.clamp(min=0)[:, None]
    own_student, own_teacher = split(student, is_target)[0], split(teacher, is_target)[0]
    q_student = split(student / temperature, is_target)[2].masked_fill(is_target, 0.0)
    q_teacher = split(teacher / temperature, is_target)[2].exp()
    target = -own_teacher.exp() * own_student
    others = -(q_teacher * q_student).sum(dim=1)
    return NkdParts(target, others * temperature**2)


class NKD(LogitsLoss):
    """`target + gamma others` of the logits; gamma is the paper's."""

    uses_unlabelled = False

    def __init__(self, gamma: float = 1.5, temperature: float = 1.0) -> None:
        super().__init__()
        self.gamma = self.hold("gamma", gamma, least=0)
        self.temperature = self.hold("temperature", temperature, above=0)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        parts = normalised(student.logits, teacher.logits, batch.labels, self.temperature)
        return parts.target + self.gamma * parts.others

    def formula(self) -> str:
        return f"NKD(gamma {show(self.gamma)}, T={show(self.temperature)})"
