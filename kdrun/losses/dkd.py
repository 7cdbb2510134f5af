"""Decoupled knowledge distillation: the target class and the other classes are matched with separate weights.

Zhao, Cui, Song, Qiu, Liang, "Decoupled Knowledge Distillation", CVPR 2022, https://arxiv.org/abs/2203.08679

Departures: log-sum-exp in place of the logarithm of summed probabilities (which is infinite in float32 for
confident logits); the target class is removed, not lowered by 1000. The warm-up of the paper is a schedule of
the term's weight. Rows without a label do not count.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from kdrun.losses.numeric import show, widen
from kdrun.losses.paired import LogitsLoss
from kdrun.types import Batch, Outputs


class Decoupled(NamedTuple):
    """target: KL of (target, all others), TCKD. others: KL among the others, NCKD. Both (N,), times T^2."""

    target: Tensor
    others: Tensor


def decoupled(student: Tensor, teacher: Tensor, labels: Tensor, temperature: Tensor | float) -> Decoupled:
    """Both parts of each row, meaningless for rows without a label. KD = TCKD + (1 - p_teacher(label)) NCKD.
    student, teacher: logits (N, K). labels: (N,) int64.
    """
    is_target = torch.arange(student.shape[1], device=labels.device) == labels.clamp(min=0)[:, None]
    own_s, rest_s, q_s = split(widen(student) / temperature, is_target)
    own_t, rest_t, q_t = split(widen(teacher.detach()) / temperature, is_target)
    target = own_t.exp() * (own_t - own_s) + rest_t.exp() * (rest_t - rest_s)
    # The target class has probability 0 on both sides; left in, it would be 0 * (inf - inf).
    others = (q_t.exp() * (q_t - q_s).masked_fill(is_target, 0.0)).sum(dim=1)
    scale = temperature**2
    return Decoupled(target * scale, others * scale)


def split(scaled: Tensor, is_target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """log p(target) (N,), log p(not target) (N,), and log-probabilities among the other classes (N, K)."""
    without = scaled.masked_fill(is_target, -torch.inf)
    total = scaled.logsumexp(dim=1)
    own = scaled.masked_fill(~is_target, 0.0).sum(dim=1) - total
    return own, without.logsumexp(dim=1) - total, F.log_softmax(without, dim=1)


class DKD(LogitsLoss):
    """`alpha TCKD + beta NCKD` of the logits; alpha and beta are the paper's."""

    uses_unlabelled = False

    def __init__(self, alpha: float = 1.0, beta: float = 8.0, temperature: float = 4.0) -> None:
        super().__init__()
        self.alpha = self.hold("alpha", alpha, least=0)
        self.beta = self.hold("beta", beta, least=0)
        self.temperature = self.hold("temperature", temperature, above=0)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        parts = decoupled(student.logits, teacher.logits, batch.labels, self.temperature)
        return self.alpha * parts.target + self.beta * parts.others

    def formula(self) -> str:
        return f"DKD(alpha {show(self.alpha)}, beta {show(self.beta)}, T={show(self.temperature)})"
