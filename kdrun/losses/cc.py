"""Correlation congruence: how alike the images of a batch are, by a Gaussian kernel.

Peng, Jin, Liu, Li, Wu, Liu, Zhou, Zhang, "Correlation Congruence for Knowledge Distillation", ICCV 2019,
https://arxiv.org/abs/1904.01802

Departure: this is the paper's kernel, as a Taylor sum, on embeddings of length 1. Another loss has the same
name: products of the differences of neighbouring rows. It depends on the order of the batch, and the weight
0.02 belongs to it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from kdrun.losses.numeric import number
from kdrun.losses.paired import LayerLoss
from kdrun.types import Batch, Outputs


def cc(student: Tensor, teacher: Tensor, gamma: float = 0.4, order: int = 2) -> Tensor:
    """Mean squared difference of the kernel matrices, a scalar. student: (N, D). teacher: (N, D')."""
    return F.mse_loss(kernel(student, gamma, order), kernel(teacher.detach(), gamma, order))


def kernel(embedding: Tensor, gamma: float, order: int) -> Tensor:
    """(N, N): exp(-gamma |u_i - u_j|^2) of unit vectors u, as a Taylor sum in their cosine up to `order`."""
    unit = F.normalize(embedding, dim=1)
    cosine = unit @ unit.T
    terms = [(2 * gamma) ** p / math.factorial(p) * cosine**p for p in range(order + 1)]
    return math.exp(-2 * gamma) * torch.stack(terms).sum(dim=0)


class CC(LayerLoss):
    """`cc` of two layers."""

    of_the_batch = True

    def __init__(
        self,
        gamma: float = 0.4,
        order: int = 2,
        student_layer: str = "embedding",
        teacher_layer: str = "embedding",
    ) -> None:
        super().__init__(student_layer, teacher_layer)
        number("gamma", gamma, above=0)
        number("order", order, least=1)
        self.gamma, self.order = float(gamma), order

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        return cc(*self.pair.vectors(student, teacher), self.gamma, self.order)

    def formula(self) -> str:
        return f"CC({self.student_layer}, gamma {self.gamma:g})"
