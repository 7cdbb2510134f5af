"""Soft targets: the student matches the teacher's softened class probabilities.

Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", NIPS workshop 2014,
https://arxiv.org/abs/1503.02531

Departures: the Kullback-Leibler divergence in place of the cross-entropy with soft targets, as everyone does:
the same gradient, and 0 if student equals teacher. Times T^2, so that the gradient keeps its size when T
changes. Classes may have temperatures of their own.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from kdrun.errors import KdrunError
from kdrun.losses.base import Loss, Needs
from kdrun.losses.numeric import number, show, widen
from kdrun.types import Batch, Outputs, Shapes


def soft_targets(student: Tensor, teacher: Tensor, temperature: Tensor | float) -> Tensor:
    """(N,): T^2 KL(teacher || student) of softmax(logits / T), summed over classes.

    student, teacher: logits (N, K). temperature: a number, or (K,), one of each class; T^2 is then their mean
    square. No gradient flows into the teacher.
    """
    log_student = F.log_softmax(widen(student) / temperature, dim=1)
    log_teacher = F.log_softmax(widen(teacher.detach()) / temperature, dim=1)
    divergence = (log_teacher.exp() * (log_teacher - log_student)).sum(dim=1)
    return divergence * (temperature.square().mean() if isinstance(temperature, Tensor) else temperature**2)


class SoftTargets(Loss):
    """`soft_targets` of the logits. per_class: factors (K,) of the temperature, none for one temperature."""

    temperature: Tensor
    per_class: Tensor | None

    def __init__(self, temperature: float = 4.0, per_class: Sequence[float] = ()) -> None:
        super().__init__()
        self.register_buffer("temperature", number("temperature", temperature, above=0), persistent=False)
        factors = torch.tensor([number("per_class", factor, above=0) for factor in per_class])
        self.register_buffer("per_class", factors if per_class else None, persistent=False)

    @property
    def needs(self) -> Needs:
        return Needs(teacher=frozenset({"logits"}))

    def build(self, student: Shapes, teacher: Shapes, images: int = 0) -> None:
        if self.per_class is None:
            return
        given, classes = len(self.per_class), student.layer("logits")[0]
        if given != classes:
            problem = f"a number for each of the {classes} classes is needed; there are {given}"
            raise KdrunError("per_class", None, problem)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        temperature = self.temperature if self.per_class is None else self.temperature * self.per_class
        return soft_targets(student.logits, teacher.logits, temperature)

    def formula(self) -> str:
        if self.per_class is None:
            t = show(self.temperature)
            return f"{t}^2 KL(teacher || student, T={t})"
        low, high = (show(self.temperature * factor) for factor in self.per_class.aminmax())
        return f"T^2 KL(teacher || student, T={low}..{high} by class)"
