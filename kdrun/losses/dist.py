"""DIST: correlations in place of exact probabilities, within an image over classes and within a class over
images.

Huang, You, Wang, Qian, Xu, "Knowledge Distillation from A Stronger Teacher", NeurIPS 2022,
https://arxiv.org/abs/2205.10536

Departure: none known; both parts carry the factor T^2 of the authors' code, which the paper does not print.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor
from torch.linalg import vector_norm

from kdrun.losses.numeric import show, widen
from kdrun.losses.paired import LogitsLoss
from kdrun.types import Batch, Outputs

EPSILON = 1e-8


class DistParts(NamedTuple):
    """inter: 1 - correlation within an image, over classes. intra: within a class, over images. Times T^2."""

    inter: Tensor
    intra: Tensor


def relations(student: Tensor, teacher: Tensor, temperature: Tensor | float) -> DistParts:
    """Both parts, scalars; student, teacher: logits (N, K)."""
    p_student = (widen(student) / temperature).softmax(dim=1)
    p_teacher = (widen(teacher.detach()) / temperature).softmax(dim=1)
    scale = temperature**2
    inter = 1 - _correlation(p_student, p_teacher).mean()
    intra = 1 - _correlation(p_student.T, p_teacher.T).mean()
    return DistParts(inter * scale, intra * scale)


def _correlation(a: Tensor, b: Tensor) -> Tensor:
    """Pearson's correlation of each row, 0 for a row that does not vary."""
    a, b = a - a.mean(dim=1, keepdim=True), b - b.mean(dim=1, keepdim=True)
    correlation: Tensor = (a * b).sum(dim=1) / (vector_norm(a, dim=1) * vector_norm(b, dim=1) + EPSILON)
    return correlation


class DIST(LogitsLoss):
    """`beta inter + gamma intra` of the logits; beta and gamma are the paper's."""

    of_the_batch = True

    def __init__(self, beta: float = 1.0, gamma: float = 1.0, temperature: float = 4.0) -> None:
        super().__init__()
        self.beta = self.hold("beta", beta, least=0)
        self.gamma = self.hold("gamma", gamma, least=0)
        self.temperature = self.hold("temperature", temperature, above=0)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        parts = relations(student.logits, teacher.logits, self.temperature)
        return self.beta * parts.inter + self.gamma * parts.intra

    def formula(self) -> str:
        return f"DIST(beta {show(self.beta)}, gamma {show(self.gamma)}, T={show(self.temperature)})"
