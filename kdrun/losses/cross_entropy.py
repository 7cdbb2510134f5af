"""Cross-entropy with the hard labels: the loss of a plain training, and the first term of most mixes.

Label smoothing: Szegedy, Vanhoucke, Ioffe, Shlens, Wojna, "Rethinking the Inception Architecture for Computer
Vision", CVPR 2016, https://arxiv.org/abs/1512.00567
Mixed labels: Zhang, Cisse, Dauphin, Lopez-Paz, "mixup: Beyond Empirical Risk Minimization", ICLR 2018,
https://arxiv.org/abs/1710.09412

Departure: rows without a label are left out of the mean; a mixed row counts by the weight of its labelled
images.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from kdrun.errors import KdrunError
from kdrun.losses.base import Loss, Needs
from kdrun.losses.numeric import labelled, widen
from kdrun.types import UNLABELLED, Batch, Mixed, Outputs


def cross_entropy(
    logits: Tensor, labels: Tensor, label_smoothing: float = 0.0, mixed: Mixed | None = None
) -> Tensor:
    """Mean over the labelled rows of -log p(label), a scalar; 0 where no row is labelled.

    logits: (N, K). labels: (N,) int64, -1 where unknown. label_smoothing: the share spread evenly over all
    classes.
    mixed: the row's partner, whose label counts with weight `1 - mixed.weight`.
    """
    logits = widen(logits)
    if mixed is None:
        total = F.cross_entropy(
            logits, labels, ignore_index=UNLABELLED, label_smoothing=label_smoothing, reduction="sum"
        )
        return total / labelled(labels).sum().clamp(min=1)
    partners = labels[mixed.partner]
    own = mixed.weight.to(logits.dtype)
    rows = own * _rows(logits, labels, label_smoothing) + (1 - own) * _rows(logits, partners, label_smoothing)
    count = (own * labelled(labels) + (1 - own) * labelled(partners)).sum()
    return rows.sum() / torch.where(count > 0, count, torch.ones_like(count))


def _rows(logits: Tensor, labels: Tensor, label_smoothing: float) -> Tensor:
    """(N,) losses, 0 for unlabelled rows."""
    return F.cross_entropy(
        logits, labels, ignore_index=UNLABELLED, label_smoothing=label_smoothing, reduction="none"
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
        return cross_entropy(student.logits, batch.labels, self.label_smoothing, batch.mixed)

    def formula(self) -> str:
        return "CE" if self.label_smoothing == 0.0 else f"CE(smoothing {self.label_smoothing:g})"
