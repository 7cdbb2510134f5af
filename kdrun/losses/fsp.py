"""Flow of solution procedure: how the channels of one stage correlate with those of the next.

Yim, Joo, Bae, Kim, "A Gift from Knowledge Distillation: Fast Optimization, Network Minimization and Transfer
Learning", CVPR 2017

Departures: maps of two stages are brought to the smaller one by averages, where the paper takes maxima. The
paper trains with this loss alone, and with the labels alone after it; beside other terms it is another
method.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional as F

from kdrun.losses.numeric import mse
from kdrun.losses.paired import StageLoss
from kdrun.types import Batch, Outputs


def flow(first: Tensor, second: Tensor) -> Tensor:
    """(N, C, C'): mean over positions of the products of two stages' channels. Maps (N, C, H, W)."""
    size = (min(first.shape[2], second.shape[2]), min(first.shape[3], second.shape[3]))
    first, second = (F.adaptive_avg_pool2d(maps, size).flatten(2) for maps in (first, second))
    return first @ second.transpose(1, 2) / first.shape[2]


class FSP(StageLoss):
    """Mean squared difference of `flow`, summed over neighbours of the last `stages`; 0: all, stem too."""

    least = 2
    stem = True
    equal_channels = True

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        maps = [pair.read(student, teacher) for pair in self.pairs]
        losses = [
            mse(flow(ours, our_next), flow(theirs, their_next))
            for (ours, theirs), (our_next, their_next) in pairwise(maps)
        ]
        return torch.stack(losses).sum(0)

    def formula(self) -> str:
        return f"FSP({self.counted})"
