"""Neuron selectivity transfer: the distribution of the channels' activation patterns, compared by a kernel.

Huang, Wang, "Like What You Like: Knowledge Distill via Neuron Selectivity Transfer", 2017,
https://arxiv.org/abs/1707.01219

Departure: maps of unequal size are brought to the smaller one. The polynomial kernel of degree 2 without
constant.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from kdrun.losses.paired import StageLoss, over_pairs
from kdrun.losses.regressors import to_smaller
from kdrun.types import Batch, Outputs


def nst(student: Tensor, teacher: Tensor) -> Tensor:
    """(N,): squared maximum mean discrepancy of the channels. Maps (N, C, H, W)."""
    ours, theirs = (_patterns(maps) for maps in to_smaller(student, teacher.detach()))
    return _kernel(theirs, theirs) + _kernel(ours, ours) - 2 * _kernel(ours, theirs)


def _patterns(features: Tensor) -> Tensor:
    """(N, C, H W): each channel's pattern, of length 1."""
    return F.normalize(features.flatten(2), dim=2)


def _kernel(a: Tensor, b: Tensor) -> Tensor:
    return (a @ b.transpose(1, 2)).square().mean((1, 2))


class NST(StageLoss):
    """`nst` summed over the last `stages` stages; 0: over all but the stem."""

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        return over_pairs(self.pairs, student, teacher, nst)

    def formula(self) -> str:
        return f"NST({self.counted})"
