"""How well a model's probabilities fit: likelihood of the labels, calibration error, best temperature.

In all functions logits are (N, K) float, and labels (N,) int64 without unknown ones. Sums are taken in
float64.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from kdrun.evaluation.accuracy import correct
from kdrun.evaluation.figure import Figure
from kdrun.evaluation.subject import Subject

BINS = 15
"""Confidence bins of the ECE, as in Guo et al. 2017."""

TEMPERATURES = (0.05, 20.0)
"""The range that `fit_temperature` searches: the optimum is not finite if every answer is right."""


def figures(subject: Subject) -> Iterator[Figure]:
    """`nll` in nats and `ece` in percent of each model on each part. On test also `temperature`, fitted on
    validation, and `ece_calibrated`, the ECE of the logits divided by it. None of a model that does not know
    all classes.
    """
    labelled = [answers.labelled for answers in subject.answers if answers.whole]
    fitted = {
        (answers.whose, answers.weights): fit_temperature(answers.logits, answers.labels)
        for answers in labelled
        if answers.part == "validation" and len(answers.labels)
    }
    for answers in labelled:
        if not len(answers.labels):
            continue
        logits, labels = answers.logits, answers.labels
        yield answers.figure("nll", nll(logits, labels), "nats")
        yield answers.figure("ece", ece(logits, labels), "%")
        temperature = fitted.get((answers.whose, answers.weights))
        if temperature is not None and answers.part == "test":  # where it was fitted, it is too good
            yield answers.figure("temperature", temperature, "")
            yield answers.figure("ece_calibrated", ece(logits.double() / temperature, labels), "%")


def nll(logits: Tensor, labels: Tensor) -> float:
    """Mean negative log-likelihood of the labels, in nats."""
    return F.cross_entropy(logits.double(), labels).item()


def ece(logits: Tensor, labels: Tensor, bins: int = BINS) -> float:
    """Expected calibration error in percent: Guo et al. 2017, eq. 3.

    The mean over images of |accuracy - mean confidence| of the image's bin. Bin m of equal width holds the
    confidences in ((m - 1) / bins, m / bins].
    """
    confidence = logits.double().softmax(1).amax(1)
    position = (confidence * bins).ceil().long().clamp(1, bins) - 1
    surplus = correct(logits, labels).double() - confidence
    by_bin = torch.zeros(bins, dtype=torch.float64).index_add_(0, position, surplus)
    return 100.0 * (by_bin.abs().sum() / len(labels)).item()


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """The temperature with the least NLL on a validation part: Guo et al. 2017, section 4.2.

    The NLL is convex in 1 / temperature, so a golden-section search over log temperature within TEMPERATURES
    finds the optimum to six digits. Raises ValueError if there is no image.
    """
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
