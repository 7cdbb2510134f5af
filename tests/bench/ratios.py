"""What the rounds of a benchmark say: medians of per-round ratios with their range, and no winner where
that range holds 1.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

T_95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145)
"""Two-sided 95 % quantiles of Student's t for 1, 2, ... degrees of freedom."""

ENOUGH = 7
"""Rounds, for a claim."""


class Spread(NamedTuple):
    """A median, and the lowest and highest that were seen."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.2f} [{self.low:.2f} {self.high:.2f}]"


def spread(values: Sequence[float]) -> Spread:
    """Of at least one value."""
    return Spread(statistics.median(values), min(values), max(values))


def ratios(base: Sequence[float], other: Sequence[float]) -> Spread:
    """How many times faster `other` was than `base` in the same round: costs, round by round."""
    return spread([one / two for one, two in zip(base, other, strict=True)])


def verdict(base: Sequence[float], other: Sequence[float]) -> str:
    """`other` is `faster` or `slower` in every round, or it is `undecided`; a few rounds say nothing."""
    if len(base) < ENOUGH:
        return "too few rounds"
    found = ratios(base, other)
    if found.low > 1:
        return "faster"
    return "slower" if found.high < 1 else "undecided"


def slope(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """The exponent p of cost = c * size^p, by least squares on logarithms."""
    x, y = [math.log(size) for size in sizes], [math.log(cost) for cost in costs]
    return statistics.linear_regression(x, y).slope


class Mean(NamedTuple):
    """A mean with its 95 % interval (Student's t), of so many values."""

    mean: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{self.mean:+.2f} [{self.low:+.2f} {self.high:+.2f}] (n = {self.n})"


def mean(values: Sequence[float]) -> Mean:
    """Of two to fifteen values."""
    middle, n = statistics.fmean(values), len(values)
    half = T_95[n - 2] * statistics.stdev(values) / math.sqrt(n)
    return Mean(middle, middle - half, middle + half, n)
