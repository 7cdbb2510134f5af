"""Hard labels of the teacher: its most likely class is the label, for unlabelled images too.

Lee, "Pseudo-Label: The Simple and Efficient Semi-Supervised Learning Method for Deep Neural Networks", ICML
workshop 2013. Departure: the labels come from the teacher, not from the network itself.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from kdrun.losses.numeric import widen
from kdrun.losses.paired import LogitsLoss
from kdrun.types import Batch, Outputs


def hard_labels(student: Tensor, teacher: Tensor) -> Tensor:
    """(N,): cross-entropy of the student with the teacher's argmax. student, teacher: logits (N, K)."""
    return F.cross_entropy(widen(student), teacher.argmax(dim=1), reduction="none")


class HardLabels(LogitsLoss):
    """`hard_labels` of the logits."""

    takes_missing = True

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        return hard_labels(student.logits, teacher.logits)

    def formula(self) -> str:
        return "CE(argmax teacher)"
