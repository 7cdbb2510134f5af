"""Statistics of images that models have right or wrong, from counts and bounds alone. Without torch."""

from __future__ import annotations

import math
from typing import Literal

AsGood = Literal["as good", "not shown to be as good", "worse"]

Verdict = Literal["better", "worse", "no measurable difference"]

LEVEL = 0.05
"""A difference is claimed if p is below this; intervals have a level of 1 minus this."""

Z95 = 1.959963984540054
"""The 97.5 % point of the normal distribution."""


def share_interval(right: int, n: int) -> tuple[float, float]:
    """The 95 % interval of an accuracy of `right` out of n images, in percent: Wilson 1927, the score
    interval for one proportion. It covers the choice of test images.
    """
    share, weight = right / n, Z95 * Z95 / n
    middle = (share + weight / 2) / (1 + weight)
    half = Z95 / (1 + weight) * math.sqrt(share * (1 - share) / n + weight / (4 * n))
    return 100 * max(0.0, middle - half), 100 * min(1.0, middle + half)


def mid_p(first: int, second: int) -> float:
    """Two-sided mid-p of McNemar's exact test that both models are equally accurate; 1 for equal counts.

    first, second: images that only one of the two has right. Under the hypothesis, `first` is binomial with
    probability 1/2 among these images. The mid-p counts half of the observed outcome. Fagerland, Lydersen and
    Laake 2013 find it close to its nominal level; the exact p is conservative.
    """
    discordant, fewer = first + second, min(first, second)
    ways, below = 1, 0  # to choose `fewer` of the discordant images, and to choose fewer than that
    for i in range(fewer):
        below += ways
        ways = ways * (discordant - i) // (i + 1)
    # Integers up to the division: 0.5 ** discordant would underflow on large test parts.
    return (2 * below + ways) / (1 << discordant)


def as_good(at_least: float, at_most: float, margin: float) -> AsGood:
    """Non-inferiority within a margin: Piaggio et al. 2012, figure 1.

    at_least, at_most: one-sided 95 % bounds of the difference to the other model, in points. As good: it is
    surely less than the margin below. Worse: it is surely more than the margin below.
    """
    if at_least > -margin:
        return "as good"
    return "worse" if at_most < -margin else "not shown to be as good"
