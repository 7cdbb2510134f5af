"""Probabilistic knowledge transfer: for each image, how likely each other image of the batch is its
neighbour.

Passalis, Tefas, "Learning Deep Representations with Probabilistic Knowledge Transfer", ECCV 2018,
https://arxiv.org/abs/1803.10837

Departures, both as in the authors' code: an image is its own neighbour too; mean over all N^2 entries, so the
value is N times smaller than a divergence per image.
"""

from __future__ import annotations

from torch import Tensor
from torch.linalg import vector_norm

from kdrun.losses.paired import LayerLoss
from kdrun.types import Batch, Outputs

EPSILON = 1e-7


def pkt(student: Tensor, teacher: Tensor) -> Tensor:
    """KL of both neighbour probabilities, mean over N^2 entries, a scalar. Embeddings (N, D) and (N, D')."""
    ours, theirs = _neighbours(student), _neighbours(teacher.detach())
    return (theirs * ((theirs + EPSILON) / (ours + EPSILON)).log()).mean()


def _neighbours(embedding: Tensor) -> Tensor:
    """(N, N): row i holds the probabilities of the neighbours of image i, from cosines moved to 0..1."""
    unit = embedding / (vector_norm(embedding, dim=1, keepdim=True) + EPSILON)
    kernel = (unit @ unit.T + 1) / 2
    probabilities: Tensor = kernel / kernel.sum(dim=1, keepdim=True)
    return probabilities


class PKT(LayerLoss):
    """`pkt` of two layers."""

    of_the_batch = True

    def __init__(self, student_layer: str = "embedding", teacher_layer: str = "embedding") -> None:
        super().__init__(student_layer, teacher_layer)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        return pkt(*self.pair.vectors(student, teacher))

    def formula(self) -> str:
        return f"PKT({self.student_layer})"
