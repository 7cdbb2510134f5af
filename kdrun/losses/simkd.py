"""The student reuses the teacher's classifier: its projected map learns to match the classifier's input.

Chen, Mei, Zhang, Wang, Feng, Chen, "Knowledge Distillation with the Reused Teacher Classifier", CVPR 2022,
https://arxiv.org/abs/2203.14001

The projector and the teacher's classifier are a part of the student, at inference too: see
`kdrun.models.reused`. The control keeps its own classifier.
"""

from __future__ import annotations

from torch import Tensor

from kdrun.errors import KdrunError
from kdrun.losses.base import Loss, Needs
from kdrun.losses.numeric import mse
from kdrun.losses.paired import Pair, pair
from kdrun.losses.regressors import resized
from kdrun.types import POOLED, Batch, Outputs, Shapes


def simkd(student: Tensor, teacher: Tensor) -> Tensor:
    """(N,): mean squared difference of two maps (N, C, H, W), the teacher's resized to the student's."""
    return mse(student, resized(teacher.detach(), (student.shape[2], student.shape[3])))


class SimKD(Loss):
    """`simkd` of the last maps, the student's after its projector."""

    pair: Pair

    @property
    def needs(self) -> Needs:
        return Needs(frozenset({"logits", POOLED}), frozenset({POOLED}))

    def build(self, student: Shapes, teacher: Shapes, images: int = 0) -> None:
        self.pair = pair(student, teacher, POOLED, POOLED, maps=True)
        if self.pair.student[0] != self.pair.teacher[0]:
            problem = f"the student's projector must give {self.pair.teacher[0]} channels, as the teacher has"
            problem += ": student.reuse_classifier=true makes it"
            raise KdrunError("name", "simkd", problem)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        return simkd(*self.pair.read(student, teacher))

    def formula(self) -> str:
        return "SimKD"
