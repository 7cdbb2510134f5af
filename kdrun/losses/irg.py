"""Instance relationship graph: the logits, the distances between images, and how far an image moves between
two stages.

Liu, Cao, Li, Yuan, Hu, Li, Duan, "Knowledge Distillation via Instance Relationship Graph", CVPR 2019

Departures: the maps are those of the last two stages, the stem counted; maps of two stages with unequal
channels are averaged over neighbouring channels to the smaller number (the implementation that the numbers
come from does so for twice as many only); the distances' maximum is differentiated.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from kdrun.losses.base import Loss, Needs
from kdrun.losses.numeric import show, widen
from kdrun.losses.paired import Pair, needs_of, stage_pairs
from kdrun.losses.regressors import to_smaller
from kdrun.types import Batch, Outputs, Shapes

EPSILON = 1e-12


class Graph(NamedTuple):
    """edges: (3, N, N) distances of images, by embedding and two stages. moves: (N,) between the stages."""

    edges: Tensor
    moves: Tensor


def graph(first: Tensor, second: Tensor, embedding: Tensor) -> Graph:
    """The graph of a batch. first, second: maps (N, C, H, W) of two stages. embedding: (N, D)."""
    edges = torch.stack([distances(layer.flatten(1)) for layer in (embedding, first, second)])
    earlier, later = to_smaller(first, second)
    channels = min(first.shape[1], second.shape[1])
    earlier, later = _narrowed(earlier, channels), _narrowed(later, channels)
    moves = (earlier - later).square().flatten(1).sum(dim=1)
    return Graph(edges, moves / moves.max().clamp(min=EPSILON))


def distances(features: Tensor) -> Tensor:
    """(N, N) squared distances over their maximum. features: (N, D)."""
    features = features - features.detach().mean(dim=0)  # changes no distance, and keeps digits in float32
    squares = features.square().sum(dim=1)
    apart = (squares[:, None] + squares[None] - 2 * features @ features.T).clamp(min=EPSILON)
    apart = apart * ~torch.eye(apart.shape[0], dtype=torch.bool, device=apart.device)
    return apart / apart.max().clamp(min=EPSILON)


def _narrowed(features: Tensor, channels: int) -> Tensor:
    """(N, C, H, W) with `channels` channels, averages of neighbouring ones."""
    if features.shape[1] == channels:
        return features
    pooled = F.adaptive_avg_pool1d(features.flatten(2).transpose(1, 2), channels)
    return pooled.transpose(1, 2).reshape(features.shape[0], channels, *features.shape[2:])


class IRG(Loss):
    """Mean squared differences of logits (vertex), distances (edge) and moves (transform), weighted."""

    of_the_batch = True
    unordered = "gradients of channels that are pooled to a number that does not divide theirs"

    pairs: tuple[Pair, ...] = ()

    def __init__(self, vertex: float = 0.1, edge: float = 5.0, transform: float = 5.0) -> None:
        super().__init__()
        self.vertex = self.hold("vertex", vertex, least=0)
        self.edge = self.hold("edge", edge, least=0)
        self.transform = self.hold("transform", transform, least=0)

    @property
    def needs(self) -> Needs:
        return needs_of(self.pairs, "embedding", logits=True)

    def build(self, student: Shapes, teacher: Shapes, images: int = 0) -> None:
        self.pairs = stage_pairs(student, teacher, 2, least=2, stem=True, key="name")

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        maps = [pair.read(student, teacher) for pair in self.pairs]
        vectors = Pair("embedding", "embedding", (), ()).read(student, teacher)
        ours, theirs = (graph(maps[0][side], maps[1][side], vectors[side]) for side in (0, 1))
        vertex = F.mse_loss(widen(student.logits), widen(teacher.logits.detach()))
        edge, transform = F.mse_loss(ours.edges, theirs.edges), F.mse_loss(ours.moves, theirs.moves)
        return self.vertex * vertex + self.edge * edge + self.transform * transform

    def formula(self) -> str:
        weights = f"{show(self.vertex)} vertex + {show(self.edge)} edge + {show(self.transform)} transform"
        return f"IRG({weights})"
