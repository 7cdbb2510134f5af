"""Soft targets: the student matches the teacher's softened class probabilities.

Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network", NIPS workshop 2014,
https://arxiv.org/abs/1503.02531

Departures: the Kullback-Leibler divergence in place of the cross-entropy with soft targets, as is usual: the
gradient is the same, and the value is 0 if student equals teacher. Times T^2, so that the gradient keeps its
size if T changes. Each class may have its own temperature.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from kdrun.errors import KdrunError
from kdrun.losses.numeric import number, show, widen
from kdrun.losses.paired import LogitsLoss
from kdrun.types import Batch, Outputs, Shapes


def soft_targets(student: Tensor, teacher: Tensor, temperature: Tensor | float) -> Tensor:
    """(N,): T^2 KL(teacher || student) of softmax(logits / T), summed over classes; no gradient flows into
    the teacher. student, teacher: logits (N, K). temperature: one, or (K,); T^2 is then their mean square.
    """
    return _divergence(student, log_softened(teacher, temperature), temperature)


def log_softened(teacher: Tensor, temperature: Tensor | float) -> Tensor:
    """(N, K): the logarithms of softmax(logits / T), without a gradient."""
    return F.log_softmax(widen(teacher.detach()) / temperature, dim=1)


def _divergence(student: Tensor, log_teacher: Tensor, temperature: Tensor | float) -> Tensor:
    log_student = F.log_softmax(widen(student) / temperature, dim=1)
    divergence = (log_teacher.exp() * (log_teacher - log_student)).sum(dim=1)
    return divergence * (temperature.square().mean() if isinstance(temperature, Tensor) else temperature**2)


class SoftTargets(LogitsLoss):
    """`soft_targets` of the logits. per_class: factors (K,) of the temperature; empty for one temperature.
    kept: the layer of the teacher's outputs that has `log_softened` of them, where there is one; or empty.
    """

    takes_missing = True
    kept = ""
    per_class: Tensor | None

    def __init__(self, temperature: float = 4.0, per_class: Sequence[float] = ()) -> None:
        super().__init__()
        self.temperature = self.hold("temperature", temperature, above=0)
        factors = torch.tensor([number("per_class", factor, above=0) for factor in per_class])
        self.register_buffer("per_class", factors if per_class else None, persistent=False)

    def build(self, student: Shapes, teacher: Shapes, images: int = 0) -> None:
        if self.per_class is None:
            return
        given, classes = len(self.per_class), student.layer("logits")[0]
        if given != classes:
            problem = f"a number for each of the {classes} classes is needed; there are {given}"
            raise KdrunError("per_class", None, problem)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        if self.kept in teacher.layers:
            return _divergence(student.logits, teacher.layers[self.kept], self.temperature)
        temperature = self.temperature if self.per_class is None else self.temperature * self.per_class
        return soft_targets(student.logits, teacher.logits, temperature)

    def formula(self) -> str:
        if self.per_class is None:
            t = show(self.temperature)
            return f"{t}^2 KL(teacher || student, T={t})"
        low, high = (show(self.temperature * factor) for factor in self.per_class.aminmax())
        return f"T^2 KL(teacher || student, T={low}..{high} by class)"
