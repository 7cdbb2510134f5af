"""How several teachers answer as one: a weight of each teacher for each image, then a mean.

All logits are over the classes of the student, (M, N, K) of M teachers for N images. What a teacher does not
know has the logit `kdrun.types.MISSING`, so its probability is 0.

- The mean of probabilities: You, Xu, Xu, Tao, "Learning from Multiple Teacher Networks", KDD 2017. Departure:
  the mean is taken at temperature 1, and its logarithm is what losses soften afterwards, so that one answer
  serves every loss.
- Weights by entropy, without labels: Kwon, Na, Lee, Kim, "Adaptive Knowledge Distillation Based on Entropy",
  ICASSP 2020. Departure: 1 - entropy / log K' of the K' classes that a teacher knows, so that teachers of
  more classes are not worth less.
- Weights by the most likely class's probability: the baseline of Hendrycks, Gimpel, "A Baseline for Detecting
  Misclassified and Out-of-Distribution Examples", ICLR 2017.
- Weights by energy, logsumexp of the logits: Liu, Wang, Owens, Li, "Energy-based Out-of-distribution
  Detection", NeurIPS 2020. Softmax of the energies makes the mean the softmax of all teachers' logits side by
  side, as a single classifier of all their classes would have it.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from kdrun.types import MISSING


class Combination(NamedTuple):
    """by: mean_probabilities or mean_logits. weights: fixed, confidence, most_confident, entropy, energy or
    known. least: of the surest teacher of an image, below which there is no answer for it; None: always one.
    """

    by: str = "mean_probabilities"
    weights: str = "fixed"
    least: float | None = None


class Combined(NamedTuple):
    """logits: (N, K). counts: (N,) bool, whether there is an answer; None if there always is."""

    logits: Tensor
    counts: Tensor | None


def combine(logits: Tensor, knows: Tensor, shares: Tensor, how: Combination, labels: Tensor) -> Combined:
    """The answer of M teachers as one. logits: (M, N, K). knows: (M, K) bool, the classes of each. shares:
    (M,), their fixed weights. labels: (N,) int64, -1 if unknown; read by the weights `known` alone.
    """
    sureness = _sureness(logits, knows, how.weights)
    counts: Tensor | None
    if how.weights == "known":
        given = knows.index_select(1, labels.clamp(min=0)) & (labels >= 0)
        counts = given.any(0)
        weights = torch.where(counts, shares[:, None] * given, shares[:, None])
    else:
        counts = None if how.least is None else sureness.amax(0) >= how.least
        weights = _weights(sureness, shares, how.weights)
    weights = weights / weights.sum(0)
    if how.by == "mean_logits":
        return Combined((weights[..., None] * logits).sum(0), counts)
    mean = (weights.log()[..., None] + logits.log_softmax(2)).logsumexp(0)
    return Combined(mean.clamp(min=MISSING), counts)


def _sureness(logits: Tensor, knows: Tensor, weights: str) -> Tensor:
    """(M, N): how sure each teacher is of each image. No label is read."""
    if weights == "energy":
        return logits.logsumexp(2)
    log = logits.log_softmax(2)
    if weights == "entropy":
        most = knows.sum(1).to(log.dtype).log()
        return 1 + (log.exp() * log).sum(2) / most[:, None]
    return log.amax(2).exp()


def _weights(sureness: Tensor, shares: Tensor, weights: str) -> Tensor:
    """(M, N), positive in each column, not yet divided by their sum."""
    own = shares[:, None].expand_as(sureness)
    if weights == "fixed":
        return own
    if weights == "energy":
        return own * (sureness - sureness.amax(0)).exp()
    if weights == "most_confident":
        first = sureness.argmax(0) == torch.arange(len(sureness), device=sureness.device)[:, None]
        return own * first
    return own * sureness.clamp(min=math.sqrt(torch.finfo(sureness.dtype).tiny))
