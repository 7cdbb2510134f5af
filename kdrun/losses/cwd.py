"""Channel-wise distillation: where in the image each channel is active, as a distribution over positions.

Shu, Liu, Gao, Yan, Shen, "Channel-wise Knowledge Distillation for Dense Prediction", ICCV 2021,
https://arxiv.org/abs/2011.13256

Departures: the student's map is brought to the teacher's size, for which the authors have no rule; a
connector is made only if the channels differ in number. Published for dense prediction; there is no
published weight for classification.
"""

from __future__ import annotations

from torch import Tensor, nn

from kdrun.losses.numeric import show
from kdrun.losses.paired import LayerLoss, Pair
from kdrun.losses.regressors import Connector, resized
from kdrun.losses.soft_targets import soft_targets
from kdrun.types import Batch, Outputs


def cwd(student: Tensor, teacher: Tensor, temperature: Tensor | float) -> Tensor:
    """(N,): T^2 KL of softmax(map / T) over positions, mean over channels. Maps (N, C, H, W)."""
    ours, theirs = (maps.flatten(2).flatten(0, 1) for maps in (student, teacher))
    return soft_targets(ours, theirs, temperature).view(student.shape[:2]).mean(1)


class CWD(LayerLoss):
    """`cwd` of two feature maps."""

    maps = True

    def __init__(
        self, temperature: float = 4.0, student_layer: str = "stage:-1", teacher_layer: str = "stage:-1"
    ) -> None:
        super().__init__(student_layer, teacher_layer)
        self.temperature = self.hold("temperature", temperature, above=0)
        self.connector: nn.Module = nn.Identity()

    def adapt(self, pair: Pair) -> None:
        if pair.student[0] != pair.teacher[0]:
            self.connector = Connector(pair.student[0], pair.teacher[0], relu=True)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        ours, theirs = self.pair.read(student, teacher)
        ours = resized(self.connector(ours), (theirs.shape[2], theirs.shape[3]))
        return cwd(ours, theirs, self.temperature)

    def formula(self) -> str:
        return f"CWD({self.student_layer}, T={show(self.temperature)})"
