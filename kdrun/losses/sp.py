"""Similarity-preserving distillation: images that are alike for the teacher are alike for the student.

Tung, Mori, "Similarity-Preserving Knowledge Distillation", ICCV 2019, https://arxiv.org/abs/1907.09682

Departure: none known.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from kdrun.losses.paired import LayerLoss
from kdrun.types import Batch, Outputs


def sp(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference of row-normalised similarity matrices, a scalar. Any shapes (N, ...)."""
    return F.mse_loss(_similarities(student), _similarities(teacher.detach()))


def _similarities(features: Tensor) -> Tensor:
    """(N, N) inner products of the images, rows of length 1."""
    flat = features.flatten(1)
    return F.normalize(flat @ flat.T, dim=1)


class SP(LayerLoss):
    """`sp` of two layers."""

    of_the_batch = True

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        return sp(*self.pair.read(student, teacher))

    def formula(self) -> str:
        return f"SP({self.student_layer})"
