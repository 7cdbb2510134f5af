"""Simple recipe distillation: a linear projector, standardised channels, the logarithm of a sum of powers.

Miles, Mikolajczyk, "Understanding the Role of the Projector in Knowledge Distillation", AAAI 2024,
https://arxiv.org/abs/2303.11098

Departure: the projector has no bias, because the standardisation after it would remove it. As in the authors'
ImageNet code the sum runs over batch and channels, and the total is cross-entropy + 2 SRD + KL at T=1, as in
the preset. A batch of one has no statistics and teaches nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kdrun.errors import KdrunError
from kdrun.losses.numeric import number
from kdrun.losses.paired import LayerLoss, Pair
from kdrun.types import Batch, Outputs

EPSILON = 1e-4

LEAST = 1e-12
"""The least sum: keeps the logarithm finite if student and teacher agree, without a gradient."""


def srd(student: Tensor, teacher: Tensor, exponent: float = 4.0) -> Tensor:
    """log sum |s - t|^exponent over batch and channels of standardised embeddings (N, D), a scalar. Can be
    negative. student: projected. No gradient flows into the teacher.
    """
    difference = standardised(student) - standardised(teacher.detach())
    return difference.abs().pow(exponent).sum().clamp(min=LEAST).log()


def standardised(embedding: Tensor) -> Tensor:
    """Each channel of (N, D) with mean 0 and deviation 1 over the batch; a constant one is 0."""
    variance, mean = torch.var_mean(embedding, dim=0, correction=0)
    return (embedding - mean) / (variance + EPSILON).sqrt()


class SRD(LayerLoss):
    """`srd` of two layers, vectors or maps averaged over positions, the student's through its projector."""

    of_the_batch = True

    projector: nn.Linear

    def __init__(
        self, exponent: float = 4.0, student_layer: str = "embedding", teacher_layer: str = "embedding"
    ) -> None:
        super().__init__(student_layer, teacher_layer)
        number("exponent", exponent, least=1)
        self.exponent = float(exponent)

    def adapt(self, pair: Pair) -> None:
        sizes = {"student_layer": pair.student, "teacher_layer": pair.teacher}
        for key, size in sizes.items():
            if len(size) not in (1, 3):
                problem = f"a vector or a feature map is needed; it is {size}"
                raise KdrunError(key, getattr(self, key), problem)
        self.projector = nn.Linear(pair.student[0], pair.teacher[0], bias=False)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        layers = self.pair.read(student, teacher)
        ours, theirs = (layer.mean((2, 3)) if layer.dim() == 4 else layer for layer in layers)
        return srd(self.projector(ours), theirs, self.exponent)

    def formula(self) -> str:
        return f"SRD({self.student_layer}, exponent {self.exponent:g})"
