"""Channel-wise distillation: where in the image each channel is active, as a distribution over positions.

Shu, Liu, Gao, Yan, Shen, "Channel-wise Knowledge Distillation for Dense Prediction", ICCV 2021,
https://arxiv.org/abs/2011.13256

Departures: the student's map is brought to the teacher's size, for which the authors have no rule; a
connector is made only where the channels differ in number. Published for dense prediction; there is no
published weight for classification.
"""

from __future__ import annotations

from torch import Tensor, nn

from kdrun.losses.base import Loss, Needs
from kdrun.losses.layers import Pair, map_pair
from kdrun.losses.numeric import number, show
from kdrun.losses.regressors import Connector, resized
from kdrun.losses.soft_targets import soft_targets
from kdrun.types import Batch, Outputs, Shapes


def cwd(student: Tensor, teacher: Tensor, temperature: Tensor | float) -> Tensor:
    """T^2 KL of softmax(map / T) over positions, mean over images and channels, a scalar; (N, C, H, W)."""
    return soft_targets(student.flatten(2).flatten(0, 1), teacher.flatten(2).flatten(0, 1), temperature)


class CWD(Loss):
    """`cwd` of two feature maps."""

    temperature: Tensor
    pair: Pair

    def __init__(
        self, temperature: float = 4.0, student_layer: str = "stage:-1", teacher_layer: str = "stage:-1"
    ) -> None:
        super().__init__()
        self.register_buffer("temperature", number("temperature", temperature, above=0), persistent=False)
        self.student_layer, self.teacher_layer = student_layer, teacher_layer
        self.connector: nn.Module = nn.Identity()

    @property
    def needs(self) -> Needs:
        return Needs(frozenset({"logits", self.student_layer}), frozenset({self.teacher_layer}))

    def build(self, student: Shapes, teacher: Shapes) -> None:
        self.pair = map_pair(student, teacher, self.student_layer, self.teacher_layer)
        if self.pair.student[0] != self.pair.teacher[0]:
            self.connector = Connector(self.pair.student[0], self.pair.teacher[0], relu=True)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        ours, theirs = self.pair.read(student, teacher)
        ours = resized(self.connector(ours), (theirs.shape[2], theirs.shape[3]))
        return cwd(ours, theirs, self.temperature)

    def formula(self) -> str:
        return f"CWD({self.student_layer}, T={show(self.temperature)})"
