"""Cross-entropy with the hard labels: the loss of a plain training, and the first term of most mixes.

Label smoothing: Szegedy, Vanhoucke, Ioffe, Shlens, Wojna, "Rethinking the Inception Architecture for Computer
Vision", CVPR 2016, https://arxiv.org/abs/1512.00567

Departure: rows without a label do not count.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from kdrun.errors import KdrunError
from kdrun.losses.base import Loss, Needs
from kdrun.losses.numeric import widen
from kdrun.types import UNLABELLED, Batch, Outputs


def cross_entropy(logits: Tensor, labels: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """(N,): -log p(label) of each row, 0 for a row without a label. logits: (N, K). labels: (N,) int64, -1
    where unknown. label_smoothing: the share spread evenly over all classes.
    """
    return F.cross_entropy(
        widen(logits), labels, ignore_index=UNLABELLED, label_smoothing=label_smoothing, reduction="none"
    )


class CrossEntropy(Loss):
    """`cross_entropy` of the student's logits with the labels."""

    uses_unlabelled = False

    def __init__(self, label_smoothing: float = 0.0) -> None:
        super().__init__()
        if not 0.0 <= label_smoothing < 1.0:
            raise KdrunError("label_smoothing", label_smoothing, "must lie in [0, 1)")
        self.label_smoothing = float(label_smoothing)

    @property
    def needs(self) -> Needs:
        return Needs()

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        return cross_entropy(student.logits, batch.labels, self.label_smoothing)

    def formula(self) -> str:
        return "CE" if self.label_smoothing == 0.0 else f"CE(smoothing {self.label_smoothing:g})"
