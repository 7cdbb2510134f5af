"""Student against control on the same test images: the gain, its interval, and whether it changes.

The gain depends on the discordant images alone: those that one of the two has right and the other wrong.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from torch import Tensor

from kdrun.evaluation.accuracy import correct
from kdrun.evaluation.counts import LEVEL, Z95, Verdict, as_good, mid_p

Z90 = 1.6448536269514722
"""The 95 % point of the normal distribution: a bound of one side holds in 95 % of all cases."""


class Pairs(NamedTuple):
    """Two models on n labelled images. first: images that only the first has right; second likewise."""

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

    It holds all differences that the score test does not reject. Unlike the plain normal interval it keeps
    its coverage if few images are discordant, and its width is not zero if none is. It covers the choice of
    test images, not the choice of the seed.
    """
    return _edge(counts, -1.0, Z95), _edge(counts, 1.0, Z95)


def bounds(counts: Pairs) -> tuple[float, float]:
    """The least and the most that `gain` may be, in points: each holds with 95 %, taken alone.

    Tango 1998 as in `gain_interval`, of one side each.
    """
    return _edge(counts, -1.0, Z90), _edge(counts, 1.0, Z90)


def _edge(counts: Pairs, outside: float, z: float) -> float:
    """The difference nearest to `outside` that the score test at z does not reject, in points."""
    inside = gain(counts) / 100
    # Bisection: 60 halvings of at most 2 reach the last bit of a float near 1.
    for _ in range(60):
        middle = (inside + outside) / 2
        if abs(_score(counts, middle)) < z:
            inside = middle
        else:
            outside = middle
    return 100 * inside


def mcnemar_p(counts: Pairs) -> float:
    """Two-sided mid-p of McNemar's exact test that both models are equally accurate."""
    return mid_p(counts.first, counts.second)


def verdict(interval: tuple[float, float], p: float) -> Verdict:
    """A difference counts only if the interval leaves out zero and p is below 0.05."""
    low, high = interval
    if p >= LEVEL or low <= 0 <= high:
        return "no measurable difference"
    return "better" if low > 0 else "worse"


def against_control(student: Tensor, control: Tensor, labels: Tensor) -> dict[str, object]:
    """`gain_top1`, `gain_interval`, `mcnemar_p` and `verdict`, as in report.json's `comparison`: logits
    (N, K) each, labels (N,), -1 left out. Empty if no image has a label.
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


def against_reference(student: Tensor, reference: Tensor, labels: Tensor, margin: float) -> dict[str, object]:
    """`difference`, `at_least`, `at_most`, `margin` in points and `verdict`, as in report.json's
    `comparison.reference`: logits (N, K) each, labels (N,), -1 left out. Empty if no image has a label.
    """
    counts = pairs(student, reference, labels)
    if not counts.n:
        return {}
    low, high = bounds(counts)
    figures: dict[str, object] = {"difference": gain(counts), "at_least": low, "at_most": high}
    return figures | {"margin": margin, "verdict": as_good(low, high, margin)}


class AccuracyChange(NamedTuple):
    """In points, with its 95 % interval over the images, and how many images have a label."""

    change: float
    interval: tuple[float, float]
    n: int


def gain_change(now: tuple[Tensor, Tensor], before: tuple[Tensor, Tensor], labels: Tensor) -> AccuracyChange:
    """The gain of one pair (student, control) minus that of another: logits (N, K) each, labels (N,).

    Each image gives a whole number from -2 to 2; the interval is the normal one of their mean. Raises
    ValueError if fewer than two images have a label.
    """
    known = labels >= 0
    new, old = (
        correct(first[known], labels[known]).double() - correct(second[known], labels[known]).double()
        for first, second in (now, before)
    )
    each = new - old
    if len(each) < 2:
        raise ValueError("two labelled images are needed")
    mean = 100 * each.mean().item()
    half = 100 * Z95 * each.std().item() / math.sqrt(len(each))
    return AccuracyChange(mean, (mean - half, mean + half), len(each))


def _score(counts: Pairs, difference: float) -> float:
    """Tango's statistic for the hypothesis that the accuracies differ by `difference`, -1 to 1.

    It falls as the difference grows.
    """
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
