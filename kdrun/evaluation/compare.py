"""Student against control on the same test images: the gain, and how sure it is.

Student and control answer the same images. So they differ only in the discordant images: those that one of
them has right and the other wrong.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

from torch import Tensor

from kdrun.evaluation.accuracy import correct

Z95 = 1.959963984540054
"""The 97.5 % point of the normal distribution."""

LEVEL = 0.05

Verdict = Literal["better", "worse", "no measurable difference"]


class Pairs(NamedTuple):
    """Two models on the same n labelled images: how many only the first has right, and how many only the
    second."""

    n: int
    first: int
    second: int


def pairs(first: Tensor, second: Tensor, labels: Tensor) -> Pairs:
    """The discordant images of two models: logits (N, K) each, labels (N,) with -1 left out."""
    known = labels >= 0
    one, two = correct(first[known], labels[known]), correct(second[known], labels[known])
    return Pairs(int(known.sum()), int((one & ~two).sum()), int((two & ~one).sum()))


def gain(counts: Pairs) -> float:
    """Accuracy of the first model minus that of the second, in points."""
    return 100.0 * (counts.first - counts.second) / counts.n


def gain_interval(counts: Pairs) -> tuple[float, float]:
    """The 95 % interval of `gain`, in points: Tango 1998, the score interval for paired proportions.

    It holds all differences that the score test does not refuse; unlike the plain normal interval it keeps
    its coverage where few images are discordant, and does not shrink to nothing where none is. It covers
    which images happen to be in the test part, not what another seed would give.
    """
    observed = gain(counts) / 100

    def edge(outside: float) -> float:
        inside = observed
        # Bisection: 60 halvings of at most 2 reach the last bit of a float near 1.
        for _ in range(60):
            middle = (inside + outside) / 2
            if abs(_score(counts, middle)) < Z95:
                inside = middle
            else:
                outside = middle
        return 100 * inside

    return edge(-1.0), edge(1.0)


def mcnemar_p(counts: Pairs) -> float:
    """The two-sided mid-p of McNemar's exact test that both models are equally often right; 1 where the two
    counts are equal.

    Given the discordant images, `first` is binomial with chance 1/2; the mid-p counts the observed outcome by
    half. Fagerland, Lydersen and Laake 2013 find it close to its nominal level where the exact p is
    needlessly timid.
    """
    discordant, fewer = counts.first + counts.second, min(counts.first, counts.second)
    ways, below = 1, 0  # of `fewer` among the discordant, and of less than that
    for i in range(fewer):
        below += ways
        ways = ways * (discordant - i) // (i + 1)
    # Whole numbers up to the division: 0.5 ** discordant would underflow on large test parts.
    return (2 * below + ways) / (1 << discordant)


def verdict(interval: tuple[float, float], p: float) -> Verdict:
    """What may be claimed: a difference only where the interval leaves out zero and p is below 0.05."""
    low, high = interval
    if p >= LEVEL or low <= 0 <= high:
        return "no measurable difference"
    return "better" if low > 0 else "worse"


def against_control(student: Tensor, control: Tensor, labels: Tensor) -> dict[str, object]:
    """`gain_top1`, `gain_interval`, `mcnemar_p` and `verdict`, as in report.json's `comparison`: logits
    (N, K) each, labels (N,), -1 left out. Nothing without a labelled image.
    """
    counts = pairs(student, control, labels)
    if not counts.n:
        return {}
    interval, p = gain_interval(counts), mcnemar_p(counts)
    return {
        "gain_top1": gain(counts),
        "gain_interval": list(interval),
        "mcnemar_p": p,
        "verdict": verdict(interval, p),
    }


def _score(counts: Pairs, difference: float) -> float:
    """Tango's statistic for the hypothesis that the accuracies differ by `difference` (-1 to 1); falls as
    that grows."""
    n, first, second = counts
    a = 2.0 * n
    b = -first - second + (2 * n - first + second) * difference
    c = -second * difference * (1 - difference)
    chance = (math.sqrt(max(b * b - 4 * a * c, 0.0)) - b) / (2 * a)
    variance = n * (2 * chance + difference * (1 - difference))
    distance = first - second - n * difference
    if variance <= 0:
        return 0.0 if abs(distance) < 1e-12 else math.copysign(math.inf, distance)
    return distance / math.sqrt(variance)
