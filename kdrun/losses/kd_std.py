"""Soft targets of standardised logits: the student matches the order of the teacher's logits, not their
range.

Sun, Ren, Li, Wang, Cao, "Logit Standardization in Knowledge Distillation", CVPR 2024,
https://arxiv.org/abs/2403.01427

Departure: none known. As in the authors' code the deviation divides by K - 1, which with few classes is
another temperature than dividing by K.
"""

from __future__ import annotations

from torch import Tensor

from kdrun.losses.numeric import show, widen
from kdrun.losses.paired import LogitsLoss
from kdrun.losses.soft_targets import soft_targets
from kdrun.types import Batch, Outputs

EPSILON = 1e-7


def standardise(logits: Tensor) -> Tensor:
    """Each row of (N, K) with mean 0 and deviation 1."""
    logits = widen(logits)
    return (logits - logits.mean(dim=1, keepdim=True)) / (logits.std(dim=1, keepdim=True) + EPSILON)


class StandardisedSoftTargets(LogitsLoss):
    """`soft_targets` of the standardised logits. temperature: the paper's base temperature."""

    def __init__(self, temperature: float = 2.0) -> None:
        super().__init__()
        self.temperature = self.hold("temperature", temperature, above=0)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        return soft_targets(standardise(student.logits), standardise(teacher.logits), self.temperature)

    def formula(self) -> str:
        t = show(self.temperature)
        return f"{t}^2 KL(teacher || student, standardised, T={t})"
