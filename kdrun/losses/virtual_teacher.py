"""A teacher made by hand: sure of the true class, and with no knowledge of how the others are alike.

Yuan, Tay, Li, Wang, Feng, "Revisiting Knowledge Distillation via Label Smoothing Regularization", CVPR 2020,
https://arxiv.org/abs/1909.11723: Tf-KD_reg, teacher-free distillation with a designed teacher

Departures: times T^2, as in other losses here. The teacher is softened as its logarithms over T, as if these
were logits; the authors' code takes softmax(p / T) of the probabilities themselves, and T = 1 for the
student. Rows without a label do not count.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from kdrun.errors import KdrunError
from kdrun.losses.base import Loss, Needs
from kdrun.losses.numeric import labelled, number, show, widen
from kdrun.losses.soft_targets import soft_targets
from kdrun.types import Batch, Outputs


def virtual_teacher(
    student: Tensor, labels: Tensor, temperature: Tensor | float, true_class: float
) -> Tensor:
    """(N,): T^2 KL(p_T || softmax(student / T)), p_T = softmax(log p / T); 0 for a row without a label. p is
    true_class for the label, (1 - true_class) / (K - 1) for each other class. student: logits (N, K). labels:
    (N,).
    """
    logits = widen(student)
    is_true = labels[:, None] == torch.arange(logits.shape[1], device=labels.device)
    other = math.log((1 - true_class) / (logits.shape[1] - 1))
    log_p = torch.full_like(logits, other, requires_grad=False).masked_fill(is_true, math.log(true_class))
    return soft_targets(logits, log_p, temperature).where(labelled(labels), 0.0)


class VirtualTeacher(Loss):
    """`virtual_teacher` of the student's logits and the labels."""

    uses_unlabelled = False

    def __init__(self, temperature: float = 20.0, true_class: float = 0.99) -> None:
        super().__init__()
        self.temperature = self.hold("temperature", temperature, above=0)
        number("true_class", true_class, above=0)
        if not true_class < 1:
            raise KdrunError("true_class", true_class, "must be above 0 and below 1")
        self.true_class = float(true_class)

    @property
    def needs(self) -> Needs:
        return Needs()

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        return virtual_teacher(student.logits, batch.labels, self.temperature, self.true_class)

    def formula(self) -> str:
        t = show(self.temperature)
        return f"{t}^2 KL(virtual teacher || student, T={t})"
