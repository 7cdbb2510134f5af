"""Statistics over seeds and splits: spreads, paired gains, verdicts and their power.

Formulas and sources: docs/statistics.md. Figures have the unit of the values, usually points of accuracy.
If less is better, pass the negative values.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import Literal, NamedTuple, TypeVar

from kdrun.evaluation.counts import LEVEL
from kdrun.figures import digits_for, interval, p_value, plural, signed
from kdrun.nested import known
from kdrun.report.distributions import NORMAL, t_p, t_power, t_quantile

GAP = 0.5
"""A typical difference between methods in published tables, in points."""

POWER = 0.8
"""Seeds are enough if the test then finds a true difference this often."""

MOST = 100_000
"""The most seeds that are ever named."""

SeedVerdict = Literal["BEATS", "TIES", "LOSES"]
RankMark = Literal["best", "tie"]
Repeat = TypeVar("Repeat")


class Spread(NamedTuple):
    """Mean and sample standard deviation (None for a single value) of n values."""

    mean: float
    std: float | None
    n: int

    def record(self) -> dict[str, float]:
        """For a JSON file: without what is not known."""
        return known(self._asdict())


class GainEvidence(NamedTuple):
    """A gain, and the evidence for it.

    interval: 95 %, over what `varied`. verdict: None if no test can be made; TIES: not told apart, which is
    not the same as equal. needed: seeds with which a test sees a difference of GAP with POWER, if their
    spread is the one seen here; None if that is unknown.
    """

    gain: Spread
    interval: tuple[float, float] | None
    p: float | None
    verdict: SeedVerdict | None
    test: str
    varied: str
    needed: int | None = None

    def __str__(self) -> str:
        """`BEATS: +1.2 points (95 % interval +0.3 to +2.1, p = 0.022: paired t test over 5 seeds)`."""
        return f"{self.verdict or 'no verdict'}: {self.evidence}"

    @property
    def evidence(self) -> str:
        """The same without the verdict."""
        digits = digits_for((self.gain.mean, *(self.interval or ())))
        claim = f"{signed(self.gain.mean, digits)} points"
        if self.interval is None or self.p is None:
            return f"{claim} ({self.test})"
        more = f"; {plural(self.needed, 'seed')} would show {GAP:g} points" if self.needed else ""
        ends = interval(self.interval, digits)
        return f"{claim} (95 % interval {ends}, p {p_value(self.p)}: {self.test}{more})"


def spread(values: Sequence[float]) -> Spread:
    """Mean, sample standard deviation and number of some values, at least one."""
    return Spread(fmean(values), stdev(values) if len(values) > 1 else None, len(values))


def shared(first: Mapping[Repeat, float], second: Mapping[Repeat, float]) -> list[float]:
    """First minus second for each seed (or split) that both have, in the order of the first."""
    return [value - second[repeat] for repeat, value in first.items() if repeat in second]


def compare(gains: Sequence[float], varied: str = "seed") -> GainEvidence:
    """Whether paired gains, one for each seed, differ from 0: the paired t test (Student 1908).

    varied: what one gain stands for. All gains share the test images, so the interval does not cover their
    choice. One gain, or gains that are all equal, give no verdict: there is no spread. Gains that are all 0
    tie.
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


def overlapping_splits(gains: Sequence[float], train: int, test: int) -> GainEvidence:
    """The same for random splits of one data set; each gain is a split's mean over its seeds.

    Such splits share images, so their gains are not independent, and the plain interval is too short. The
    corrected one has the variance (1 / n + test / train) std^2 (Nadeau and Bengio 2003). train: images that
    a model learned from; test: images of a split's test part.
    """
    gain = spread(gains)
    inflated = 1 / (1 / gain.n + test / train)
    corrected = _tested(gain, inflated, f"corrected t test over {plural(gain.n, 'split')}", "splits")
    return corrected._replace(needed=None)  # more splits do not reduce the term test / train


def seeds_needed(std: float, gap: float = GAP, power: float = POWER, level: float = LEVEL) -> int | None:
    """The fewest seeds with which the paired t test sees a true mean gain of `gap` with that power.

    std: of the paired gains, in the unit of gap. From the noncentral t distribution (`t_power`): the normal
    approximation gives too few. None beyond MOST.
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
    """The p of several tests, adjusted for the family-wise error rate: Holm 1979.

    The i-th smallest of m is multiplied by m - i + 1, is never below the one before, and at most 1.
    """
    adjusted, largest = [0.0] * len(p), 0.0
    for rank, position in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        largest = max(largest, min(1.0, (len(p) - rank) * p[position]))
        adjusted[position] = largest
    return adjusted


def against_control(
    methods: Mapping[str, Mapping[Repeat, float]], control: Mapping[Repeat, float]
) -> dict[str, GainEvidence]:
    """Each method against one control, paired by seed: p and verdict by Holm's correction over all of them.

    Intervals are not corrected, so one may leave out 0 although the verdict is TIES. Methods that share no
    seed with the control are left out.
    """
    gains = {name: shared(values, control) for name, values in methods.items()}
    return holm_corrected({name: compare(paired) for name, paired in gains.items() if paired})


def holm_corrected(comparisons: Mapping[str, GainEvidence]) -> dict[str, GainEvidence]:
    """The same comparisons with p and verdict by Holm's correction over all that were tested."""
    corrected = dict(comparisons)
    tested = {name: one.p for name, one in corrected.items() if one.p is not None}
    for name, p in zip(tested, holm(list(tested.values())), strict=True):
        one = corrected[name]
        text = f"{one.test}, Holm over {plural(len(tested), 'method')}" if len(tested) > 1 else one.test
        corrected[name] = one._replace(p=p, verdict=_verdict(one.gain.mean, p), test=text)
    return corrected


def marks(methods: Mapping[str, Mapping[Repeat, float]]) -> dict[str, RankMark]:
    """The method with the highest mean, and its ties.

    A tie: the paired t test against the best, Holm-corrected over all methods, does not reject. A method
    needs two seeds in common with the best; without them it gets no mark. Nothing is marked if the best has
    only one seed, or if there is only one method.
    """
    if len(methods) < 2:
        return {}
    best = max(methods, key=lambda name: fmean(methods[name].values()))
    if len(methods[best]) < 2:
        return {}
    others = {name: values for name, values in methods.items() if name != best}
    compared = against_control(others, methods[best])
    ties = [name for name, one in compared.items() if one.verdict == "TIES"]
    return {best: "best", **dict.fromkeys(ties, "tie")}


def marks_of_most(methods: Mapping[str, Mapping[Repeat, float]]) -> dict[str, RankMark]:
    """`marks` among the methods with the most repeats."""
    most = max(map(len, methods.values()), default=0)
    return marks({name: values for name, values in methods.items() if values and len(values) == most})


def noise_of(repeats: int, images: int, part: str = "validation", noun: str = "seed") -> str:
    """The sources of noise: `3 seeds and 5,000 validation images`; with one seed, images only.

    noun: what a repeat is called.
    """
    shown = plural(images, f"{part} image")
    return f"{plural(repeats, noun)} and {shown}" if repeats > 1 else f"{shown} only: one {noun} each"


def _tested(gain: Spread, effective: float, test: str, varied: str) -> GainEvidence:
    """The t test of a mean with the variance std^2 / effective, on gain.n - 1 degrees of freedom."""
    if gain.n < 2:
        return GainEvidence(gain, None, None, None, f"no test: one {varied.removesuffix('s')}", varied)
    if not gain.std:
        verdict: SeedVerdict | None = None if gain.mean else "TIES"
        return GainEvidence(gain, None, None, verdict, f"no test: all {gain.n} gains are equal", varied)
    error, df = gain.std / math.sqrt(effective), gain.n - 1
    half = t_quantile(1 - LEVEL / 2, df) * error
    p = t_p(gain.mean / error, df)
    ends = (gain.mean - half, gain.mean + half)
    return GainEvidence(gain, ends, p, _verdict(gain.mean, p), test, varied, seeds_needed(gain.std))


def _verdict(mean: float, p: float) -> SeedVerdict:
    if p >= LEVEL:
        return "TIES"
    return "BEATS" if mean > 0 else "LOSES"
