"""Flow of solution procedure: how the channels of one stage go together with those of the next.

Yim, Joo, Bae, Kim, "A Gift from Knowledge Distillation: Fast Optimization, Network Minimization and Transfer
Learning", CVPR 2017

Departures: the paper trains with this loss first and with the labels after it; here it is a term beside
others. Maps of two stages are brought to the smaller one by averages, where the paper takes maxima.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional as F

from kdrun.errors import KdrunError
from kdrun.losses.base import Loss, Needs
from kdrun.losses.layers import Pair, needs_of, stage_pairs
from kdrun.losses.numeric import number
from kdrun.types import Batch, Outputs, Shapes


def flow(first: Tensor, second: Tensor) -> Tensor:
    """(N, C, C'): mean over positions of the products of two stages' channels. Maps (N, C, H, W)."""
    size = (min(first.shape[2], second.shape[2]), min(first.shape[3], second.shape[3]))
    first, second = (F.adaptive_avg_pool2d(maps, size).flatten(2) for maps in (first, second))
    return first @ second.transpose(1, 2) / first.shape[2]


class FSP(Loss):
    """Mean squared difference of `flow`, summed over neighbours of the last `stages`; 0: all, stem too."""

    pairs: tuple[Pair, ...] = ()

    def __init__(self, stages: int = 0) -> None:
        super().__init__()
        number("stages", stages, least=0)
        self.stages = stages

    @property
    def needs(self) -> Needs:
        return needs_of(self.pairs)

    def build(self, student: Shapes, teacher: Shapes) -> None:
        pairs = stage_pairs(student, teacher, self.stages, least=2, stem=True)
        for pair in pairs:
            if pair.student[0] != pair.teacher[0]:
                problem = (
                    f"equal channels are needed; {pair.student_layer} has {pair.student[0]} in the "
                    f"student, {pair.teacher[0]} in the teacher"
                )
                raise KdrunError("stages", self.stages, problem)
        self.pairs = pairs

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        maps = [pair.read(student, teacher) for pair in self.pairs]
        neighbours = pairwise(maps)
        losses = [
            F.mse_loss(flow(ours, our_next), flow(theirs, their_next))
            for (ours, theirs), (our_next, their_next) in neighbours
        ]
        return torch.stack(losses).sum()

    def formula(self) -> str:
        return f"FSP({self.stages or 'all'} stages)"
