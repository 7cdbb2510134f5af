"""Variational information distillation: the student predicts the teacher's maps, each channel with its own
variance.

Ahn, Hu, Damianou, Lawrence, Dai, "Variational Information Distillation for Knowledge Transfer", CVPR 2019,
https://arxiv.org/abs/1904.05835

Departures: the constant of the Gaussian is left out; the regressor is three 1x1 convolutions, as wide as the
teacher; maps of unequal size are brought to the smaller one. The variances are trained.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdrun.losses.numeric import number
from kdrun.losses.paired import Pair, StageLoss
from kdrun.losses.regressors import to_smaller
from kdrun.types import Batch, Outputs

EPSILON = 1e-5


def vid(mean: Tensor, scale: Tensor, teacher: Tensor) -> Tensor:
    """(N,): negative log-likelihood of the teacher's map, mean over an image's elements. Can be negative.
    mean, teacher: (N, C, H, W). scale: (C,), the variance is softplus(scale) + 1e-5.
    """
    variance = (F.softplus(scale) + EPSILON).view(1, -1, 1, 1)
    return 0.5 * ((mean - teacher.detach()).square() / variance + variance.log()).flatten(1).mean(1)


class Predictor(nn.Module):
    """Predicts a teacher's map (N, C', H, W) from a student's (N, C, H, W), with a variance per channel."""

    def __init__(self, channels: int, out: int, variance: float) -> None:
        super().__init__()
        layers = [nn.Conv2d(a, b, 1, bias=False) for a, b in ((channels, out), (out, out), (out, out))]
        self.regressor = nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])
        self.log_scale = nn.Parameter(torch.full((out,), math.log(math.expm1(variance - EPSILON))))

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        ours, theirs = to_smaller(student, teacher)
        return vid(self.regressor(ours), self.log_scale, theirs)


class VID(StageLoss):
    """`vid` summed over the last `stages` stages; 0: over all but the stem. variance: its first value."""

    def __init__(self, stages: int = 0, variance: float = 5.0) -> None:
        super().__init__(stages)
        number("variance", variance, above=EPSILON)
        self.variance = variance
        self.predictors = nn.ModuleList()

    def adapt(self, pairs: tuple[Pair, ...]) -> None:
        made = (Predictor(pair.student[0], pair.teacher[0], self.variance) for pair in pairs)
        self.predictors = nn.ModuleList(made)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        each = zip(self.predictors, self.pairs, strict=True)
        return torch.stack([predictor(*pair.read(student, teacher)) for predictor, pair in each]).sum(0)

    def formula(self) -> str:
        return f"VID({self.counted})"
