"""Pearson correlation of feature maps: what counts is the pattern of each channel, not its mean and size.

Cao, Zhang, Gao, Cheng, Cheng, Cheng, "PKD: General Distillation Framework for Object Detectors via Pearson
Correlation Coefficient", NeurIPS 2022, https://arxiv.org/abs/2207.02039

Departure: a 1x1 convolution if the channels differ in number, which the authors do not allow. Published
for detectors; there is no published weight for classification.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from kdrun.losses.paired import LayerLoss, Pair
from kdrun.types import Batch, Outputs

EPSILON = 1e-6


def pkd(student: Tensor, teacher: Tensor) -> Tensor:
    """Half the mean squared difference of maps standardised over the batch, a scalar: about 1 - correlation.
    student: (N, C, H', W'), brought to the teacher's size (N, C, H, W) by bilinear interpolation.
    """
    if student.shape[2:] != teacher.shape[2:]:
        student = F.interpolate(student, teacher.shape[2:], mode="bilinear", align_corners=False)
    return F.mse_loss(_standardised(student), _standardised(teacher.detach())) / 2


def _standardised(features: Tensor) -> Tensor:
    """Each channel with mean 0 and deviation 1 over batch and positions; 0 if it has one value only."""
    centred = features - features.mean(dim=(0, 2, 3), keepdim=True)
    several = features.numel() > features.shape[1]
    return centred / (features.std(dim=(0, 2, 3), keepdim=True) + EPSILON) if several else centred


class PKD(LayerLoss):
    """`pkd` of two feature maps."""

    of_the_batch = True
    maps = True

    def __init__(self, student_layer: str = "stage:-1", teacher_layer: str = "stage:-1") -> None:
        super().__init__(student_layer, teacher_layer)
        self.align: nn.Module = nn.Identity()

    def adapt(self, pair: Pair) -> None:
        if pair.student[0] != pair.teacher[0]:
            self.align = nn.Conv2d(pair.student[0], pair.teacher[0], 1)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        ours, theirs = self.pair.read(student, teacher)
        return pkd(self.align(ours), theirs)

    def formula(self) -> str:
        return f"PKD({self.student_layer})"
