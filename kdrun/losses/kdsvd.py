"""Singular vectors of feature maps: how those of one stage relate to those of the next.

Lee, Kim, Song, "Self-supervised Knowledge Distillation Using Singular Value Decomposition", ECCV 2018,
https://arxiv.org/abs/1807.06819

Departures: divided by the batch, as toolboxes do, whereas the authors sum. A singular vector has no sign of
its own, and the value depends on those of the teacher's neighbouring stages: each is turned so that its
entries sum to 0 or more. Where two singular values meet, the gradient leaves that pair out.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from kdrun.losses.numeric import number
from kdrun.losses.paired import StageLoss
from kdrun.types import Batch, Outputs

MORE = 3
"""How many more vectors of the student are compared than the teacher has."""

WIDTH = 8.0
"""Of the kernel that two stages are compared by."""


class Eigenvectors(torch.autograd.Function):
    """Eigenvectors of symmetric matrices (N, C, C), by falling eigenvalue, with a finite gradient."""

    @staticmethod
    def forward(ctx: Any, matrices: Tensor) -> Tensor:
        values, vectors = torch.linalg.eigh(matrices)
        falling: Tensor = vectors.flip(2).contiguous()
        ctx.save_for_backward(values.flip(1), falling)
        return falling

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        values, vectors = ctx.saved_tensors
        (gradient,) = gradients
        gaps = values[:, None, :] - values[:, :, None]
        least = torch.finfo(values.dtype).eps * values.abs().amax(1)[:, None, None] * values.shape[1]
        apart = gaps.abs() > least
        inverse = torch.where(apart, 1 / torch.where(apart, gaps, torch.ones_like(gaps)), 0.0)
        inner = inverse * (vectors.transpose(1, 2) @ gradient)
        back: Tensor = vectors @ inner @ vectors.transpose(1, 2)
        return (back + back.transpose(1, 2)) / 2


def vectors(maps: Tensor, count: int) -> Tensor:
    """The first right singular vectors of maps (N, C, H, W) taken as HW x C: (N, C, at most count)."""
    flat = maps.flatten(2)
    every: Tensor = Eigenvectors.apply(flat @ flat.transpose(1, 2))
    return every[:, :, : min(count, *flat.shape[1:])]


def strengths(maps: Tensor, count: int) -> Tensor:
    """The first singular values of maps (N, C, H, W), as a vector of length 1: (N, at most count)."""
    return F.normalize(torch.linalg.svdvals(maps.flatten(2))[:, :count], dim=1)


def aligned(student: Tensor, teacher: Tensor) -> Tensor:
    """For each vector of the teacher (N, C, k) the student's (N, C, m) most like it, turned to its side."""
    cosines = student.transpose(1, 2) @ teacher
    best = cosines.abs().argmax(1, keepdim=True)
    chosen = torch.zeros_like(cosines).scatter(1, best, cosines.gather(1, best).sign())
    return student @ chosen.detach()


def kdsvd(stages: list[tuple[Tensor, Tensor]]) -> Tensor:
    """(N,): squared difference of the kernels between neighbouring stages, summed. stages: vectors of student
    and teacher, weighted by strength: (N, C, k) both, from shallow to deep.
    """
    losses = []
    for (ours, theirs), (our_next, their_next) in pairwise(stages):
        difference = _kernel(ours, our_next) - _kernel(theirs, their_next).detach()
        losses.append(difference.square().flatten(1).sum(1))
    return torch.stack(losses).sum(0)


def _kernel(first: Tensor, second: Tensor) -> Tensor:
    """(N, C', C, k) of vectors (N, C, k) and (N, C', k)."""
    count = min(first.shape[2], second.shape[2])
    gaps = second[:, :, None, :count] - first[:, None, :, :count]
    return torch.exp(-gaps.square() / WIDTH)


class KDSVD(StageLoss):
    """`kdsvd` over the last `stages` stages (0: all but the stem), by `vectors` vectors of each."""

    least = 2
    equal_channels = True
    capturable = False  # decompositions report on the host whether they converged

    def __init__(self, stages: int = 0, vectors: int = 1) -> None:
        super().__init__(stages)
        number("vectors", vectors, least=1)
        self.vectors = vectors

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        return kdsvd([self._stage(*pair.read(student, teacher)) for pair in self.pairs])

    def _stage(self, ours: Tensor, theirs: Tensor) -> tuple[Tensor, Tensor]:
        wanted = vectors(theirs, self.vectors)
        wanted = wanted * torch.where(wanted.sum(1, keepdim=True) < 0, -1.0, 1.0)
        weights = strengths(theirs, wanted.shape[2])[:, None]
        return aligned(vectors(ours, self.vectors + MORE), wanted) * weights, wanted * weights

    def formula(self) -> str:
        return f"KDSVD({self.counted}, k={self.vectors})"
