"""Transformed teacher matching: the teacher's probabilities are raised to a power, the student's are not.

Zheng, Yang, "Knowledge Distillation Based on Transformed Teacher Matching", ICLR 2024,
https://arxiv.org/abs/2402.11148

Departure: softmax(gamma z) in place of powers of softmax(z): the same numbers, but powers underflow in
float32. No T^2.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from kdrun.losses.numeric import show, widen
from kdrun.losses.paired import LogitsLoss
from kdrun.types import Batch, Outputs


def transformed(student: Tensor, teacher: Tensor, gamma: Tensor | float) -> Tensor:
    """(N,) KL(p_teacher^gamma, normalised || p_student). student, teacher: logits (N, K)."""
    log_student = F.log_softmax(widen(student), dim=1)
    log_teacher = F.log_softmax(gamma * widen(teacher.detach()), dim=1)
    return (log_teacher.exp() * (log_teacher - log_student)).sum(dim=1)


class TTM(LogitsLoss):
    """`transformed` of the logits. gamma: the paper's, 1 / T of the teacher."""

    takes_missing = True

    def __init__(self, gamma: float = 0.1) -> None:
        super().__init__()
        self.gamma = self.hold("gamma", gamma, above=0)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        return transformed(student.logits, teacher.logits, self.gamma)

    def formula(self) -> str:
        return f"KL(teacher^{show(self.gamma)} || student)"
