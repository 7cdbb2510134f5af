"""Multi-level logit distillation: images, pairs of images and pairs of classes, at several temperatures.

Jin, Wang, Lin, "Multi-Level Logit Distillation", CVPR 2023, pages 24276 to 24285

Departures: one view of each image, not a weak and a strong one; no confidence masks (in the authors' code
they scale sums by a constant and pick nothing). As in that code only the level of images carries the factor
T^2.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from kdrun.errors import KdrunError
from kdrun.losses.numeric import number, widen
from kdrun.losses.paired import LogitsLoss
from kdrun.losses.soft_targets import soft_targets
from kdrun.types import Batch, Outputs


def levels(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """(3,) at one temperature, of a batch: T^2 KL, pairs of images, pairs of classes. Logits (N, K)."""
    rows, classes = student.shape
    p_student = (widen(student) / temperature).softmax(dim=1)
    p_teacher = (widen(teacher.detach()) / temperature).softmax(dim=1)
    images = (p_teacher @ p_teacher.T - p_student @ p_student.T).square().sum() / rows
    kinds = (p_teacher.T @ p_teacher - p_student.T @ p_student).square().sum() / classes
    return torch.stack([soft_targets(student, teacher, temperature).mean(), images, kinds])


class MLKD(LogitsLoss):
    """The sum of `levels` over temperatures."""

    of_the_batch = True

    def __init__(self, temperatures: Sequence[float] = (2.0, 3.0, 4.0, 5.0, 6.0)) -> None:
        super().__init__()
        if not temperatures:
            raise KdrunError("temperatures", "[]", "at least one is needed")
        for temperature in temperatures:
            number("temperatures", temperature, above=0)
        self.temperatures = tuple(float(temperature) for temperature in temperatures)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        each = [levels(student.logits, teacher.logits, temperature) for temperature in self.temperatures]
        return torch.stack(each).sum()

    def formula(self) -> str:
        return f"MLKD(T={', '.join(f'{t:g}' for t in self.temperatures)})"
