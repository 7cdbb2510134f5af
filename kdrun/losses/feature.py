"""Features: a layer of the student, through a regressor if needed, matches a layer of the teacher.

Romero, Ballas, Ebrahimi Kahou, Chassang, Gatta, Bengio, "FitNets: Hints for Thin Deep Nets", ICLR 2015,
https://arxiv.org/abs/1412.6550

Departures: mean over all elements in place of half the squared norm; batch norm and ReLU after the
regressor's convolution; trained together with the other terms, not in a phase before them. The weight 100
that is in use belongs to toolboxes that do the same.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from kdrun.errors import KdrunError
from kdrun.losses.numeric import mse
from kdrun.losses.paired import LayerLoss, Pair
from kdrun.losses.regressors import regressor
from kdrun.types import Batch, Outputs

DISTANCES = ("mse", "cosine")
REGRESSORS = ("auto", "always")


def feature(student: Tensor, teacher: Tensor, distance: str = "mse") -> Tensor:
    """(N,): distance of two tensors (N, ...) of one shape; no gradient flows into the teacher. distance: mse,
    over an image's elements; cosine, 1 - cos of an image's elements as a vector.
    """
    if distance == "mse":
        return mse(student, teacher.detach())
    return 1 - F.cosine_similarity(student.flatten(1), teacher.detach().flatten(1), dim=1)


class Feature(LayerLoss):
    """`feature` of two layers. regressor: auto (only if the shapes differ) or always (as in FitNets)."""

    def __init__(
        self,
        student_layer: str = "stage:-1",
        teacher_layer: str = "stage:-1",
        distance: str = "mse",
        regressor: str = "auto",
    ) -> None:
        super().__init__(student_layer, teacher_layer)
        if distance not in DISTANCES:
            raise KdrunError("distance", distance, "no such distance", DISTANCES)
        if regressor not in REGRESSORS:
            raise KdrunError("regressor", regressor, "no such choice", REGRESSORS)
        self.distance, self.wanted = distance, regressor
        self.regressor: nn.Module = nn.Identity()

    def adapt(self, pair: Pair) -> None:
        if self.wanted == "auto" and pair.student == pair.teacher:
            return
        fitting = regressor(pair.student, pair.teacher)
        if fitting is None:
            problem = f"no regressor leads from {pair.student} to {pair.teacher} of the teacher"
            raise KdrunError("student_layer", self.student_layer, problem)
        self.regressor = fitting

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        ours, theirs = self.pair.read(student, teacher)
        return feature(self.regressor(ours), theirs, self.distance)

    def formula(self) -> str:
        arrow = "" if self.student_layer == self.teacher_layer else f" to {self.teacher_layer}"
        return f"{self.distance}({self.student_layer}{arrow})"
