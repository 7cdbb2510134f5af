"""Decoupled knowledge distillation of standardised logits.

Sun, Ren, Li, Wang, Cao, "Logit Standardization in Knowledge Distillation", CVPR 2024,
https://arxiv.org/abs/2403.01427 Zhao, Cui, Song, Qiu, Liang, "Decoupled Knowledge Distillation", CVPR 2022,
https://arxiv.org/abs/2203.08679

Departures: those of `dkd`. The authors multiply alpha and beta by 9; here that is the weight of the term.
"""

from __future__ import annotations

from torch import Tensor

from kdrun.losses.dkd import decoupled
from kdrun.losses.kd_std import standardise
from kdrun.losses.numeric import show
from kdrun.losses.paired import LogitsLoss
from kdrun.types import Batch, Outputs


class StandardisedDKD(LogitsLoss):
    """`alpha TCKD + beta NCKD` of the standardised logits. temperature: the base temperature."""

    uses_unlabelled = False

    def __init__(self, alpha: float = 1.0, beta: float = 8.0, temperature: float = 2.0) -> None:
        super().__init__()
        self.alpha = self.hold("alpha", alpha, least=0)
        self.beta = self.hold("beta", beta, least=0)
        self.temperature = self.hold("temperature", temperature, above=0)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        ours, theirs = standardise(student.logits), standardise(teacher.logits)
        parts = decoupled(ours, theirs, batch.labels, self.temperature)
        return self.alpha * parts.target + self.beta * parts.others

    def formula(self) -> str:
        numbers = f"alpha {show(self.alpha)}, beta {show(self.beta)}, T={show(self.temperature)}"
        return f"DKD(standardised, {numbers})"
