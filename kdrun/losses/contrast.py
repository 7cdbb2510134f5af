"""Contrast: noise-contrastive estimation of which row of a memory bank belongs to an image.

Gutmann, Hyvarinen, "Noise-contrastive estimation", AISTATS 2010, in the form of Tian et al., ICLR 2020.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

EPSILON = 1e-7


class Contrast(NamedTuple):
    """loss: a scalar. scale: the constant that scores are divided by, a scalar without gradient."""

    loss: Tensor
    scale: Tensor


def contrast(
    anchor: Tensor, bank: Tensor, drawn: Tensor, temperature: Tensor | float, scale: Tensor | None = None
) -> Contrast:
    """Noise-contrastive loss of anchors (N, D) against the bank (M, D) of the other model, mean over the
    batch.

    drawn: (N, 1 + K) rows of the bank, the positive first. scale: as returned by the first step; none, or one
    below 0, before it.
    """
    scores = (anchor @ bank.T / temperature).gather(1, drawn).exp()
    first = scores.detach().mean() * bank.shape[0]
    scale = first if scale is None else torch.where(scale > 0, scale, first)
    probabilities = scores / scale
    noise = (drawn.shape[1] - 1) / bank.shape[0]
    positive = probabilities[:, :1] / (probabilities[:, :1] + noise + EPSILON)
    negative = noise / (probabilities[:, 1:] + noise + EPSILON)
    loss = -(positive.log().sum() + negative.log().sum()) / anchor.shape[0]
    return Contrast(loss, scale)
