"""Deep mutual learning: two students match each other's class probabilities while both learn from the labels.

Zhang, Xiang, Hospedales, Lu, "Deep Mutual Learning", CVPR 2018, https://arxiv.org/abs/1706.00384

The teacher is a peer that learns in the same way at the same time, with this student as its teacher.

Departure: both learn from the outputs before either was updated; the paper updates one after the other and
takes new outputs of the first.
"""

from __future__ import annotations

from torch import Tensor

from kdrun.losses.numeric import show
from kdrun.losses.paired import LogitsLoss
from kdrun.losses.soft_targets import soft_targets
from kdrun.types import Batch, Outputs


class DML(LogitsLoss):
    """`soft_targets` with the peer's; temperature: 1 in the paper."""

    def __init__(self, temperature: float = 1.0) -> None:
        super().__init__()
        self.temperature = self.hold("temperature", temperature, above=0)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        return soft_targets(student.logits, teacher.logits, self.temperature)

    def formula(self) -> str:
        t = show(self.temperature)
        return "KL(peer || student)" if t == "1" else f"{t}^2 KL(peer || student, T={t})"
