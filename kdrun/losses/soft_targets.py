"""Soft targets: the student matches the teacher's softened class probabilities.

Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", NIPS workshop 2014,
https://arxiv.org/abs/1503.02531

Departure: the Kullback-Leibler divergence in place of the cross-entropy with soft targets, as everyone does:
the same gradient, and 0 where student equals teacher. Times T^2, so that the gradient keeps its size when T
changes.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from kdrun.losses.base import Loss, Needs
from kdrun.losses.numeric import number, show, widen
from kdrun.types import Batch, Outputs


def soft_targets(student: Tensor, teacher: Tensor, temperature: Tensor | float) -> Tensor:
    """T^2 KL(teacher || student) of softmax(logits / T), summed over classes, mean over the batch: a scalar.

    student, teacher: logits (N, K). No gradient flows into the teacher.
    """
    log_student = F.log_softmax(widen(student) / temperature, dim=1)
    log_teacher = F.log_softmax(widen(teacher.detach()) / temperature, dim=1)
    divergence = F.kl_div(log_student, log_teacher, reduction="batchmean", log_target=True)
    return divergence * temperature**2


class SoftTargets(Loss):
    """`soft_targets` of the logits."""

    temperature: Tensor

    def __init__(self, temperature: float = 4.0) -> None:
        super().__init__()
        self.register_buffer("temperature", number("temperature", temperature, above=0), persistent=False)

    @property
    def needs(self) -> Needs:
        return Needs(teacher=frozenset({"logits"}))

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        return soft_targets(student.logits, teacher.logits, self.temperature)

    def formula(self) -> str:
        t = show(self.temperature)
        return f"{t}^2 KL(teacher || student, T={t})"
