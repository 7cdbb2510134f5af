"""Attention transfer: where in the image the features are large.

Zagoruyko, Komodakis, "Paying More Attention to Attention: Improving the Performance of Convolutional Neural
Networks via Attention Transfer", ICLR 2017, https://arxiv.org/abs/1612.03928

Departures: mean of squared differences in place of their norm, as in the authors' code, to which the weight
1000 belongs; maps of unequal size are brought to the smaller one.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from kdrun.losses.numeric import mse, number
from kdrun.losses.paired import StageLoss, over_pairs
from kdrun.losses.regressors import to_smaller
from kdrun.types import Batch, Outputs


def at(student: Tensor, teacher: Tensor, power: float = 2.0) -> Tensor:
    """(N,): mean squared difference of the attention maps. student, teacher: (N, C, H, W) of any size."""
    ours, theirs = to_smaller(student, teacher.detach())
    return mse(attention(ours, power), attention(theirs, power))


def attention(features: Tensor, power: float) -> Tensor:
    """(N, H W) of length 1: the mean over channels of features^power. features: (N, C, H, W)."""
    return F.normalize(features.pow(power).mean(dim=1).flatten(1), dim=1)


class AT(StageLoss):
    """`at` summed over the last `stages` stages; 0: over all but the stem."""

    def __init__(self, stages: int = 0, power: int = 2) -> None:
        super().__init__(stages)
        number("power", power, least=1)
        self.power = power

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        return over_pairs(self.pairs, student, teacher, lambda ours, theirs: at(ours, theirs, self.power))

    def formula(self) -> str:
        return f"AT({self.counted})"
