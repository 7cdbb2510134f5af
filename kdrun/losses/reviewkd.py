"""Knowledge review: each stage of the student, fused with its deeper ones, matches the teacher's stage at
several scales.

Chen, Liu, Zhao, Jia, "Distilling Knowledge via Knowledge Review", CVPR 2021, https://arxiv.org/abs/2104.09044

Departures: the pooled vector is the model's embedding, whatever it is; maps of the teacher are taken before
the activation if its family has them, after it otherwise. The warm-up of the paper is a schedule of the
term's weight.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdrun.losses.base import Loss, Needs
from kdrun.losses.numeric import mse, number
from kdrun.losses.paired import Pair, needs_of, pair, stage_pairs
from kdrun.losses.regressors import batch_norm
from kdrun.types import Batch, Outputs, Shapes

LEVELS = (4, 2, 1)
WIDEST = 512


def hierarchical(student: Tensor, teacher: Tensor) -> Tensor:
    """(N,): weighted mean of squared differences of two maps (N, C, H, W) in full and pooled to 4, 2 and 1.
    Each level that is smaller than the map counts half as much as the one before.
    """
    teacher = teacher.detach()
    total, weight, weights = mse(student, teacher), 1.0, 1.0
    for level in LEVELS:
        if level < student.shape[2]:
            weight /= 2
            ours, theirs = F.adaptive_avg_pool2d(student, level), F.adaptive_avg_pool2d(teacher, level)
            total, weights = total + weight * mse(ours, theirs), weights + weight
    return total / weights


class Fusion(nn.Module):
    """Fuses a stage of the student with the output of the deeper one, if there is one, by attention, in the
    teacher's shape. The first convolution leads to `width` channels, the second to the teacher's.
    """

    def __init__(self, channels: int, width: int, teacher: tuple[int, ...], deepest: bool) -> None:
        super().__init__()
        self.size = tuple(teacher[1:])
        self.conv1 = nn.Sequential(nn.Conv2d(channels, width, 1, bias=False), nn.BatchNorm2d(width))
        self.conv2 = nn.Sequential(
            nn.Conv2d(width, teacher[0], 3, padding=1, bias=False), nn.BatchNorm2d(teacher[0])
        )
        self.att_conv = None if deepest else nn.Sequential(nn.Conv2d(2 * width, 2, 1), nn.Sigmoid())

    def forward(self, features: Tensor, deeper: Tensor | None) -> tuple[Tensor, Tensor]:
        """The student's stage, and the input of the next one, (N, C, H, W) of the teacher's size."""
        fused = _through(self.conv1, features)
        if self.att_conv is not None and deeper is not None:
            deeper = F.interpolate(deeper, fused.shape[2:], mode="nearest")
            attention = self.att_conv(torch.cat([fused, deeper], dim=1))
            fused = fused * attention[:, :1] + deeper * attention[:, 1:]
        if tuple(fused.shape[2:]) != self.size:
            fused = F.interpolate(fused, self.size, mode="nearest")
        return _through(self.conv2, fused), fused


def _through(block: nn.Sequential, features: Tensor) -> Tensor:
    norm = block[1]
    assert isinstance(norm, nn.BatchNorm2d)
    return batch_norm(block[0](features), norm)


class ReviewKD(Loss):
    """`hierarchical` summed over the last `stages` stages (0: all but the stem) and the embedding."""

    pairs: tuple[Pair, ...] = ()

    def __init__(self, stages: int = 0) -> None:
        super().__init__()
        number("stages", stages, least=0)
        self.stages = stages
        self.fusions = nn.ModuleList()

    @property
    def needs(self) -> Needs:
        return needs_of(self.pairs, "embedding")

    def build(self, student: Shapes, teacher: Shapes, images: int = 0) -> None:
        self.pairs = stage_pairs(student, teacher, self.stages, before="teacher")
        pooled = pair(student, teacher, "embedding", "embedding")
        levels = [(each.student[0], each.teacher) for each in self.pairs]
        levels.append((pooled.student[0], (pooled.teacher[0], 1, 1)))
        width = min(WIDEST, levels[-1][0])
        last = len(levels) - 1
        made = (Fusion(ours, width, theirs, i == last) for i, (ours, theirs) in enumerate(levels))
        self.fusions = nn.ModuleList(made)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        maps = [each.read(student, teacher) for each in self.pairs]
        pooled = Pair("embedding", "embedding", (), ()).read(student, teacher)
        maps.append((pooled[0][:, :, None, None], pooled[1][:, :, None, None]))
        return review(list(self.fusions), maps)

    def formula(self) -> str:
        return f"ReviewKD({self.stages or 'all'} stages)"


def review(fusions: list[nn.Module], maps: list[tuple[Tensor, Tensor]]) -> Tensor:
    """(N,): the sum of `hierarchical` over pairs of maps of student and teacher, from shallow to deep."""
    losses, deeper = [], None
    for fusion, (ours, theirs) in zip(reversed(fusions), reversed(maps), strict=True):
        fused, deeper = fusion(ours, deeper)
        losses.append(hierarchical(fused, theirs))
    return torch.stack(losses).sum(0)
