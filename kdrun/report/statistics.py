"""What seeds and splits may be said to show: spreads, paired gains, verdicts and their power.

Formulas and sources: docs/statistics.md. Figures are in points of accuracy, or whatever the values are in.
If less is better, give the values with the sign turned.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean, stdev
from typing import Literal, NamedTuple, TypeVar

from kdrun.figures import p_value, percent, plural, signed
from kdrun.report.distributions import NORMAL, t_p, t_power, t_quantile

LEVEL = 0.05
"""A difference is claimed where p is below this; intervals hold 1 minus this."""

GAP = 0.5
"""The difference, in points, that most tables argue about."""

POWER = 0.8
"""With so many seeds that a test finds a true difference this often, it counts as able to see it."""

MOST = 100_000
"""Seeds beyond which nobody would go."""

Verdict = Literal["BEATS", "TIES", "LOSES"]
Mark = Literal["best", "tie"]
Repeat = TypeVar("Repeat")


class Spread(NamedTuple):
    """Mean and sample standard deviation (None of a single value) of n values."""

    mean: float
    std: float | None
    n: int


class Comparison(NamedTuple):
    """How far one lies above another, and how sure that is.

    interval: 95 %, of what `varied`. verdict: None where no test can be made. TIES: not told apart, which is
    not the same as equal. needed: seeds with which a difference of GAP would be seen in POWER of all cases,
    were their spread the one seen here; None where that is unknown.
    """

    gain: Spread
    interval: tuple[float, float] | None
    p: float | None
    verdict: Verdict | None
    test: str
    varied: str
    needed: int | None = None

    def __str__(self) -> str:
        """`BEATS by +1.2 points (95 % interval +0.3 to +2.1, p = 0.022: paired t test over 5 seeds)`."""
        digits = _digits(self)
        said = f"{self.verdict or 'no verdict'}: {signed(self.gain.mean, digits)} points"
        if self.interval is None or self.p is None:
            return f"{said} ({self.test})"
        low, high = (signed(edge, digits) for edge in self.interval)
        more = f"; {plural(self.needed, 'seed')} would show {GAP:g} points" if self.needed else ""
        return f"{said} (95 % interval {low} to {high}, p {p_value(self.p)}: {self.test}{more})"


def spread(values: Sequence[float]) -> Spread:
    """Mean, sample standard deviation and number of some values, at least one."""
    return Spread(fmean(values), stdev(values) if len(values) > 1 else None, len(values))


def shared(first: Mapping[Repeat, float], second: Mapping[Repeat, float]) -> list[float]:
    """First minus second, paired: of each seed (or split) that both have, in the order of the first."""
    return [value - second[repeat] for repeat, value in first.items() if repeat in second]


def compare(gains: Sequence[float], varied: str = "seed") -> Comparison:
    """Whether paired gains, one of each seed, differ from 0: the paired t test (Student 1908).

    varied: what one gain stands for. The test images are the same in all, so their choice is not in the
    interval. One gain, or gains that are all equal, give no verdict: there is no spread to test against.
    Gains that are all 0 tie.
    """
    gain = spread(gains)
    return _tested(gain, gain.n, f"paired t test over {plural(gain.n, varied)}", f"{varied}s")


def one_sided(gains: Sequence[float], shared: float = 0.0) -> tuple[float, float] | None:
    """The least and the most that a mean difference may be, with 95 % each: Student 1908, of one side.

    gains: paired, one of each seed. shared: of splits that share images, test images over training images
    (Nadeau and Bengio 2003). None of a single value.
    """
    if len(gains) < 2:
        return None
    error = stdev(gains) * math.sqrt(1 / len(gains) + shared)
    half = t_quantile(1 - LEVEL, len(gains) - 1) * error
    return fmean(gains) - half, fmean(gains) + half


def overlapping_splits(gains: Sequence[float], train: int, test: int) -> Comparison:
    """The same for one gain (the mean over its seeds) of each random split of one data set.

    Such splits share images, so their gains are not independent, and the plain interval is too short. The
    corrected one: Nadeau and Bengio 2003, with a variance of (1 / n + test / train) std^2. train:
    images that a model learned from; test: images of a split's test part.
    """
    gain = spread(gains)
    inflated = 1 / (1 / gain.n + test / train)
    found = _tested(gain, inflated, f"corrected t test over {plural(gain.n, 'split')}", "splits")
    return found._replace(needed=None)  # more splits of the same images do not shrink the second part


def seeds_needed(std: float, gap: float = GAP, power: float = POWER, level: float = LEVEL) -> int | None:
    """The fewest seeds with which the paired t test sees a true mean gain of `gap` with that power.

    std: of the paired gains, in the unit of gap. By the noncentral t distribution (`t_power`), not by the
    normal approximation, which names too few. None beyond MOST.
    """
    if std <= 0:
        return 2
    effect = gap / std
    start = ((NORMAL.inv_cdf(1 - level / 2) + NORMAL.inv_cdf(power)) / effect) ** 2
    if start > MOST:
        return None
    n = max(2, int(start))  # the approximation is from below
    while t_power(effect, n, level) < power:
        n += 1
    return n


def holm(p: Sequence[float]) -> list[float]:
    """The p of several tests, adjusted so that any false claim is as rare as the level says: Holm 1979.

    The i-th smallest of m is multiplied by m - i + 1, never falls below the one before, and stays within 1.
    """
    adjusted, largest = [0.0] * len(p), 0.0
    for rank, position in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        largest = max(largest, min(1.0, (len(p) - rank) * p[position]))
        adjusted[position] = largest
    return adjusted


def against_control(
    methods: Mapping[str, Mapping[Repeat, float]], control: Mapping[Repeat, float]
) -> dict[str, Comparison]:
    """Each method against one control, paired by seed: p and verdict by Holm's correction over all of them.

    Intervals are those of each method by itself, so one may leave out 0 beside the verdict TIES. Methods that
    share no seed with the control are left out.
    """
    gains = {name: shared(values, control) for name, values in methods.items()}
    return holm_corrected({name: compare(paired) for name, paired in gains.items() if paired})


def holm_corrected(comparisons: Mapping[str, Comparison]) -> dict[str, Comparison]:
    """The same comparisons with p and verdict by Holm's correction over all that were tested."""
    found = dict(comparisons)
    tested = {name: one.p for name, one in found.items() if one.p is not None}
    for name, p in zip(tested, holm(list(tested.values())), strict=True):
        one = found[name]
        text = f"{one.test}, Holm over {plural(len(tested), 'method')}" if len(tested) > 1 else one.test
        found[name] = one._replace(p=p, verdict=_verdict(one.gain.mean, p), test=text)
    return found


def marks(methods: Mapping[str, Mapping[Repeat, float]]) -> dict[str, Mark]:
    """The method of the highest mean, and those that the seeds do not tell apart from it (ties).

    A tie: the paired t test against the best, Holm-corrected over all methods, does not reject. Only methods
    with at least two seeds in common with the best can be told apart from it; the others get no mark. Nothing
    is marked where the best has one seed only, or is alone.
    """
    if len(methods) < 2:
        return {}
    best = max(methods, key=lambda name: fmean(methods[name].values()))
    if len(methods[best]) < 2:
        return {}
    others = {name: values for name, values in methods.items() if name != best}
    found = against_control(others, methods[best])
    ties = [name for name, one in found.items() if one.verdict == "TIES"]
    return {best: "best", **dict.fromkeys(ties, "tie")}


def wilson(right: int, n: int) -> tuple[float, float]:
    """The 95 % score interval of a share, right of n, in percent: Wilson 1927. It stays within 0 to 100."""
    z = NORMAL.inv_cdf(1 - LEVEL / 2)
    share, weight = right / n, z * z / n
    middle = (share + weight / 2) / (1 + weight)
    half = z * math.sqrt(share * (1 - share) / n + weight / (4 * n)) / (1 + weight)
    return max(0.0, 100 * (middle - half)), min(100.0, 100 * (middle + half))


def noise_of(repeats: int, images: int, part: str = "validation", noun: str = "seed") -> str:
    """What a word about noise holds: `3 seeds and 5,000 validation images`; of one seed, images only.

    noun: what the repeats are called.
    """
    shown = plural(images, f"{part} image")
    return f"{plural(repeats, noun)} and {shown}" if repeats > 1 else f"{shown} only: one {noun} each"


def _tested(gain: Spread, effective: float, test: str, varied: str) -> Comparison:
    """The t test of a mean with the variance std^2 / effective, on gain.n - 1 degrees of freedom."""
    if gain.n < 2:
        return Comparison(gain, None, None, None, f"no test: one {varied.removesuffix('s')}", varied)
    if not gain.std:
        told: Verdict | None = None if gain.mean else "TIES"
        return Comparison(gain, None, None, told, f"no test: all {gain.n} gains are equal", varied)
    error, df = gain.std / math.sqrt(effective), gain.n - 1
    half = t_quantile(1 - LEVEL / 2, df) * error
    p = t_p(gain.mean / error, df)
    interval = (gain.mean - half, gain.mean + half)
    return Comparison(gain, interval, p, _verdict(gain.mean, p), test, varied, seeds_needed(gain.std))


def _verdict(mean: float, p: float) -> Verdict:
    if p >= LEVEL:
        return "TIES"
    return "BEATS" if mean > 0 else "LOSES"


def _digits(comparison: Comparison) -> int:
    """One digit, or two where one would round the mean or an edge of the interval to a bare zero."""
    shown: Iterable[float] = (comparison.gain.mean, *(comparison.interval or ()))
    return 2 if any(value and not percent(abs(value)).strip("0.") for value in shown) else 1
