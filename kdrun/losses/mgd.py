"""Masked generative distillation: the teacher's full map is generated from the student's map with channels
left out.

Yang, Li, Shao, Shi, Yuan, Yuan, "Masked Generative Distillation", ECCV 2022, https://arxiv.org/abs/2205.01529

Departure: the student's map is brought to the teacher's size, whereas the authors need equal sizes. The
factor 7e-5 of the authors is the term's weight.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kdrun.errors import KdrunError
from kdrun.losses.paired import LayerLoss, Pair
from kdrun.losses.regressors import resized
from kdrun.types import Batch, Outputs

MASKS = ("channel", "position")


def mgd(generated: Tensor, teacher: Tensor) -> Tensor:
    """(N,): squared difference, summed over an image's elements. Both (N, C, H, W)."""
    return (generated - teacher.detach()).square().flatten(1).sum(1)


class Generator(nn.Module):
    """Generates a teacher's map (N, C', H, W) from a student's masked map (N, C, H, W)."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.align: nn.Module = nn.Identity() if channels == out else nn.Conv2d(channels, out, 1)
        self.generation = nn.Sequential(
            nn.Conv2d(out, out, 3, padding=1), nn.ReLU(), nn.Conv2d(out, out, 3, padding=1)
        )

    def forward(self, features: Tensor, kept: Tensor) -> Tensor:
        generated: Tensor = self.generation(self.align(features) * kept)
        return generated


class MGD(LayerLoss):
    """`mgd` of two feature maps. masked: the share that is left out. mask: of the channels or positions."""

    maps, draws = True, True
    generator: Generator

    def __init__(
        self,
        masked: float = 0.15,
        mask: str = "channel",
        student_layer: str = "stage:-1",
        teacher_layer: str = "stage:-1",
    ) -> None:
        super().__init__(student_layer, teacher_layer)
        if mask not in MASKS:
            raise KdrunError("mask", mask, "no such mask", MASKS)
        if not 0.0 <= masked < 1.0:
            raise KdrunError("masked", masked, "must lie in [0, 1)")
        self.masked, self.mask = float(masked), mask

    def adapt(self, pair: Pair) -> None:
        self.generator = Generator(pair.student[0], pair.teacher[0])

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        ours, theirs = self.pair.read(student, teacher)
        rows, channels, height, width = theirs.shape
        shape = (rows, channels, 1, 1) if self.mask == "channel" else (rows, 1, height, width)
        kept = torch.rand(shape, device=theirs.device) >= self.masked
        return mgd(self.generator(resized(ours, (height, width)), kept), theirs)

    def formula(self) -> str:
        return f"MGD({self.student_layer}, {self.masked:g} masked)"
