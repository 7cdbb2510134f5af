"""Accuracy and calibration of one model: logits once, then pure functions of logits and labels.

Everywhere: logits (N, K) float, labels (N,) int64 with -1 for images of unknown class. Sums are taken in
float64.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdrun.evaluation.eval_mode import evaluating

TOP5_CLASSES = 6
"""From how many classes on top-5 says anything: with five every answer would be right."""

BINS = 15
"""Confidence bins of the ECE, as in Guo et al. 2017."""

TEMPERATURES = (0.05, 20.0)
"""Where `fit_temperature` looks: a part that is answered without an error has no finite optimum."""


@torch.inference_mode()
def logits_of(model: nn.Module, batches: Iterable[Tensor]) -> Tensor:
    """Logits (N, K) float32 on the CPU of all batches (B, C, H, W), in their order, in evaluation mode.

    The model's weights, statistics and training flags are left as they were. Raises ValueError where there is
    no batch.
    """
    with evaluating(model):
        parts = [model(images).float() for images in batches]
    if not parts:
        raise ValueError("no batch to evaluate")
    # One copy at the end: copying each batch would wait for the device each time.
    return torch.cat(parts).cpu()


def correct(logits: Tensor, labels: Tensor, k: int = 1) -> Tensor:
    """(N,) bool: whether the label is among the k highest logits. Between equal logits the lower class
    comes first, as in argmax; a row that holds a NaN is wrong."""
    own = logits.gather(1, labels[:, None])
    earlier = torch.arange(logits.shape[1], device=logits.device) < labels[:, None]
    rank = ((logits > own) | ((logits == own) & earlier)).sum(1)
    return (rank < k) & ~logits.isnan().any(1)


def top_k(logits: Tensor, labels: Tensor, k: int = 1) -> float:
    """Percent of images whose label is among the k highest logits (see `correct`)."""
    return 100.0 * correct(logits, labels, k).double().mean().item()


def nll(logits: Tensor, labels: Tensor) -> float:
    """Mean negative log-likelihood of the labels, in nats."""
    return F.cross_entropy(logits.double(), labels).item()


def ece(logits: Tensor, labels: Tensor, bins: int = BINS) -> float:
    """Expected calibration error in percent: Guo et al. 2017, eq. 3, with equal-width bins ((m - 1) / bins, m
    / bins].

    The mean over images of |accuracy - mean confidence| of the bin that each falls into.
    """
    confidence = logits.double().softmax(1).amax(1)
    position = (confidence * bins).ceil().long().clamp(1, bins) - 1
    surplus = correct(logits, labels).double() - confidence
    by_bin = torch.zeros(bins, dtype=torch.float64).index_add_(0, position, surplus)
    return 100.0 * (by_bin.abs().sum() / len(labels)).item()


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """The temperature that makes the labels of a validation part most likely: Guo et al. 2017, section 4.2.

    The NLL is convex in 1 / temperature, so a golden-section search over log temperature within TEMPERATURES
    finds the optimum to six digits, the same on every call. Raises ValueError without a labelled image.
    """
    logits, labels = _labelled(logits, labels)
    if not len(labels):
        raise ValueError("no labelled image to fit a temperature on")
    logits = logits.double()

    def loss(position: float) -> float:
        return nll(logits / math.exp(position), labels)

    low, high = (math.log(bound) for bound in TEMPERATURES)
    shrink = (math.sqrt(5) - 1) / 2
    left, right = high - shrink * (high - low), low + shrink * (high - low)
    at_left, at_right = loss(left), loss(right)
    while high - low > 1e-6:
        if at_left <= at_right:
            high, right, at_right = right, left, at_left
            left = high - shrink * (high - low)
            at_left = loss(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + shrink * (high - low)
            at_right = loss(right)
    return math.exp((low + high) / 2)


def confusion_matrix(logits: Tensor, labels: Tensor) -> Tensor:
    """(K, K) int64 counts: rows are true classes, columns the answers. Unlabelled images are left out."""
    logits, labels = _labelled(logits, labels)
    classes = logits.shape[1]
    cells = labels * classes + logits.argmax(1)
    return torch.bincount(cells, minlength=classes * classes).reshape(classes, classes)


def scores(logits: Tensor, labels: Tensor, temperature: float | None = None) -> dict[str, float]:
    """The figures of one part: n, top1, top5 and ece in percent, nll in nats; unlabelled images are left out.

    top5 is absent below TOP5_CLASSES classes; without a labelled image there are no figures at all. A
    temperature, fitted on validation, adds `temperature` and `ece_calibrated`.
    """
    logits, labels = _labelled(logits, labels)
    if not len(labels):
        return {}
    figures: dict[str, float] = {"n": len(labels), "top1": top_k(logits, labels)}
    if logits.shape[1] >= TOP5_CLASSES:
        figures["top5"] = top_k(logits, labels, 5)
    figures |= {"nll": nll(logits, labels), "ece": ece(logits, labels)}
    if temperature is not None:
        figures |= {"temperature": temperature, "ece_calibrated": ece(logits.double() / temperature, labels)}
    return figures


def _labelled(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    known = labels >= 0
    return logits[known], labels[known]
