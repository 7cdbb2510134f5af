"""Inter-channel correlation: which channels of a map are active together.

Liu, Huang, Lin, Xie, Wang, Chang, Liang, "Exploring Inter-Channel Correlation for Diversity-preserved
Knowledge Distillation", ICCV 2021, https://arxiv.org/abs/2202.03680

Departure: the second connector of the authors' code, made for the teacher and never used, is left out. Mean
over batch and channels, as in their CIFAR code; their ImageNet code divides by the batch once more.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from kdrun.losses.paired import LayerLoss, Pair
from kdrun.losses.regressors import Connector
from kdrun.types import Batch, Outputs


def ickd(student: Tensor, teacher: Tensor) -> Tensor:
    """(N,): squared difference of correlations, mean over rows. Maps (N, C, H, W), (N, C, H', W')."""
    difference = _correlations(student) - _correlations(teacher.detach())
    return difference.square().flatten(1).sum(1) / teacher.shape[1]


def _correlations(features: Tensor) -> Tensor:
    """(N, C, C): inner products of the channels, rows of length 1."""
    flat = features.flatten(2)
    return F.normalize(flat @ flat.transpose(1, 2), dim=2)


class ICKD(LayerLoss):
    """`ickd` of two feature maps, the student's through a connector."""

    maps = True
    connector: Connector

    def adapt(self, pair: Pair) -> None:
        self.connector = Connector(pair.student[0], pair.teacher[0])

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        ours, theirs = self.pair.read(student, teacher)
        return ickd(self.connector(ours), theirs)

    def formula(self) -> str:
        return f"ICKD({self.student_layer})"
