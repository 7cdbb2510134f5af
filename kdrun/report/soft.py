"""Soft targets: softmax at a temperature, its entropy, and the choice of images to show."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kdrun.schedule import Schedule

Floats = NDArray[np.float64]

WITHOUT = 4.0
"""The temperature that is shown if the loss has none."""


def softened(logits: ArrayLike, temperature: float) -> Floats:
    """softmax(logits / T) over the last axis: Hinton et al. 2015, eq. 1. logits: (..., K)."""
    scaled = np.asarray(logits, np.float64) / temperature
    powers: Floats = np.exp(scaled - scaled.max(-1, keepdims=True))
    return np.asarray(powers / powers.sum(-1, keepdims=True), np.float64)


def entropy(shares: ArrayLike) -> Floats:
    """The entropy in nats over the last axis; 0 for a certain answer, ln K for a uniform one."""
    values = np.asarray(shares, np.float64)
    logs = np.log(values, out=np.zeros_like(values), where=values > 0)
    return np.asarray(-(values * logs).sum(-1), np.float64)


def first_to_second(logits: ArrayLike, temperature: float) -> float:
    """How many times the largest soft target is the second largest, geometric mean over images: the
    exponential of the mean of (z1 - z2) / T. logits: (N, K).

    The ratio of the logits themselves has no meaning: a softmax does not change if all logits grow by one.
    """
    ordered = np.sort(np.asarray(logits, np.float64), axis=-1)
    return float(np.exp(((ordered[..., -1] - ordered[..., -2]) / temperature).mean()))


def most_uncertain(logits: ArrayLike, labels: ArrayLike, temperature: float, count: int = 1) -> list[int]:
    """For each class the `count` images whose soft targets have the highest entropy, class by class.

    logits: (N, K). labels: (N,), -1 for an unknown class. Whether a model is right does not matter. Images
    with logits that are not finite are left out.
    """
    values, known = np.asarray(logits), np.asarray(labels)
    usable = (known >= 0) & np.isfinite(values).all(-1)
    uncertain = np.full(len(values), -1.0)
    uncertain[usable] = entropy(softened(values[usable], temperature))
    order = np.argsort(-uncertain, kind="stable")
    order = order[usable[order]]
    return [int(row) for label in np.unique(known[usable]) for row in order[known[order] == label][:count]]


def spaced(rows: Sequence[int], most: int) -> list[int]:
    """At most so many of the rows, evenly spaced, the first among them."""
    if len(rows) <= most:
        return list(rows)
    return [rows[position * len(rows) // most] for position in range(most)]


def largest(shares: ArrayLike, count: int) -> list[int]:
    """The classes with the largest shares (K,), the largest first."""
    return [int(place) for place in np.argsort(-np.asarray(shares), kind="stable")[:count]]


def share_text(share: float) -> str:
    """`62 %`; near 0 and 100, where whole percents hide differences, one digit more: `99.8 %`."""
    value = 100 * share
    if 0 < value < 0.05:
        return "<0.1 %"
    if 99.95 <= value < 100:
        return ">99.9 %"
    return f"{value:.0f} %" if 9.95 <= value < 99 or value in (0, 100) else f"{value:.1f} %"


def temperature_of(config: dict[str, Any]) -> float | None:
    """The temperature in the configuration of a run's loss; of a schedule, its end. None without one."""
    terms = [term for term in config.get("loss", {}).values() if isinstance(term, dict)]
    values = [term.get("temperature") for term in terms]
    value = next((value for value in values if value is not None), config.get("temperature"))
    return None if value is None else Schedule.parse(value, "temperature").end
