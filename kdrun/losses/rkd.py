"""Relational knowledge distillation: distances of pairs and angles of triples of images.

Park, Kim, Lu, Cho, "Relational Knowledge Distillation", CVPR 2019, https://arxiv.org/abs/1904.05068

Departures: means over all pairs and triples, degenerate ones counted, as in the authors' code. Equal images
of a batch give no gradient to their angles (in that code about 1e11).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from kdrun.losses.numeric import show
from kdrun.losses.paired import LayerLoss
from kdrun.types import Batch, Outputs

EPSILON = 1e-12


class RkdParts(NamedTuple):
    """distance: smooth L1 of the pairs' distances over their mean. angle: of the triples' cosines."""

    distance: Tensor
    angle: Tensor


def relations(student: Tensor, teacher: Tensor) -> RkdParts:
    """Both parts, scalars. student: embeddings (N, D); teacher: (N, D')."""
    ours, theirs = _differences(student), _differences(teacher.detach())
    distance = F.smooth_l1_loss(_distances(ours), _distances(theirs))
    return RkdParts(distance, F.smooth_l1_loss(_cosines(ours), _cosines(theirs)))


def _differences(embedding: Tensor) -> Tensor:
    """(N, N, D): from image i to image j."""
    return embedding[None] - embedding[:, None]


def _distances(differences: Tensor) -> Tensor:
    """(N, N) over the mean distance of two images; 0 from an image to itself."""
    count = differences.shape[0]
    others = ~torch.eye(count, dtype=torch.bool, device=differences.device)
    distances = differences.square().sum(dim=2).clamp(min=EPSILON).sqrt() * others
    return distances / (distances.sum() / max(count * (count - 1), 1)).clamp(min=EPSILON)


def _cosines(differences: Tensor) -> Tensor:
    """(N, N, N): of the angle at image i between images j and k; 0 if there is none."""
    lengths = differences.square().sum(dim=2, keepdim=True)
    known = lengths > EPSILON**2
    units = torch.where(known, differences, 0.0) / torch.where(known, lengths, 1.0).sqrt()
    return units @ units.transpose(1, 2)


class RKD(LayerLoss):
    """`distance` and `angle`, each times its weight, of two layers that are vectors."""

    of_the_batch = True

    def __init__(
        self,
        distance: float = 25.0,
        angle: float = 50.0,
        student_layer: str = "embedding",
        teacher_layer: str = "embedding",
    ) -> None:
        super().__init__(student_layer, teacher_layer)
        self.distance = self.hold("distance", distance, least=0)
        self.angle = self.hold("angle", angle, least=0)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        parts = relations(*self.pair.vectors(student, teacher))
        return self.distance * parts.distance + self.angle * parts.angle

    def formula(self) -> str:
        return f"RKD({show(self.distance)} distance + {show(self.angle)} angle)"
