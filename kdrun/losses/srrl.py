"""Softmax regression representation learning: the teacher's classifier reads the student's features.

Yang, Martinez, Bulat, Tzimiropoulos, "Knowledge Distillation via Softmax Regression Representation Learning",
ICLR 2021, https://openreview.net/forum?id=ZzwDy_wiWv

Departures: the teacher's features are its embedding, which is the mean of the last map if its classifier
reads that. With `student_layer: embedding` the connector reads the vector, as in later toolboxes.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from kdrun.errors import KdrunError
from kdrun.losses.base import Loss, Needs
from kdrun.losses.numeric import mse, number, widen
from kdrun.losses.paired import Pair, pair
from kdrun.losses.regressors import Connector
from kdrun.types import CLASSIFIER, Batch, HeadWeights, Outputs, Shapes


def srrl(
    features: Tensor, embedding: Tensor, logits: Tensor, classifier: HeadWeights, softmax: float = 1.0
) -> Tensor:
    """(N,): mean squared difference of features, and `softmax` times that of the logits they give. features:
    (N, D) of the student, connected. embedding, logits, classifier: the teacher's, (N, D), (N, K).
    """
    weight, bias = (None if tensor is None else widen(tensor.detach()) for tensor in classifier)
    assert weight is not None
    read = F.linear(features, weight, bias)
    return mse(features, embedding.detach()) + softmax * mse(read, logits.detach())


class SRRL(Loss):
    """`srrl` of a layer of the student, map or vector, through a connector and a mean over positions."""

    pair: Pair
    connector: Connector

    def __init__(self, student_layer: str = "stage:-1", softmax: float = 1.0) -> None:
        super().__init__()
        number("softmax", softmax, least=0)
        self.student_layer, self.softmax = student_layer, float(softmax)

    @property
    def needs(self) -> Needs:
        teacher = frozenset({"logits", "embedding", CLASSIFIER})
        return Needs(frozenset({"logits", self.student_layer}), teacher)

    def build(self, student: Shapes, teacher: Shapes, images: int = 0) -> None:
        self.pair = pair(student, teacher, self.student_layer, "embedding")
        if len(self.pair.student) not in (1, 3):
            problem = f"a feature map or a vector is needed; it is {self.pair.student}"
            raise KdrunError("student_layer", self.student_layer, problem)
        if teacher.classifier is None or teacher.classifier[1:] != self.pair.teacher:
            problem = "the teacher's last layer must be a linear one, which reads its embedding"
            raise KdrunError("name", "srrl", problem)
        self.connector = Connector(self.pair.student[0], self.pair.teacher[0], relu=True)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        ours, theirs = self.pair.read(student, teacher)
        maps = ours[:, :, None, None] if ours.dim() == 2 else ours
        assert teacher.classifier is not None
        connected = self.connector(maps).mean((2, 3))
        return srrl(connected, theirs, widen(teacher.logits), teacher.classifier, self.softmax)

    def formula(self) -> str:
        return f"SRRL({self.student_layer})"
