"""Ranks of methods over several data sets: means with intervals, and a test whether all are equal."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kdrun.evaluation.counts import LEVEL
from kdrun.report.distributions import f_p

DRAWS = 10_000


class Rank(NamedTuple):
    """Mean rank of a method (1 is best) over the data sets, with its 95 % interval over these."""

    mean: float
    low: float
    high: float


class MethodRanks(NamedTuple):
    """methods: mean ranks, best first. sets: number of data sets. p: of all methods being equally good."""

    methods: dict[str, Rank]
    sets: int
    p: float


def mean_ranks(scores: Mapping[str, Mapping[str, float]], draws: int = DRAWS) -> MethodRanks:
    """Ranks of methods by their scores (higher is better) on each data set: Friedman 1937, Demsar 2006.

    scores: by data set, by method; a method that some data set lacks is left out. Intervals: percentiles of
    the mean ranks of resampled data sets; with fewer than about six data sets they are coarse. Raises
    ValueError with fewer than two data sets or two methods.
    """
    names = [name for name in next(iter(scores.values()), {}) if all(name in row for row in scores.values())]
    if len(scores) < 2 or len(names) < 2:
        raise ValueError(f"{len(names)} methods on {len(scores)} data sets: two of each are needed")
    each = np.array([_ranked([-row[name] for name in names]) for row in scores.values()])
    picks = np.random.default_rng(0).integers(len(each), size=(draws, len(each)))
    low, high = np.quantile(each[picks].mean(1), (LEVEL / 2, 1 - LEVEL / 2), axis=0)
    columns = zip(names, each.mean(0), low, high, strict=True)
    by_name = {name: Rank(*map(float, figures)) for name, *figures in columns}
    return MethodRanks(
        dict(sorted(by_name.items(), key=lambda item: item[1].mean)), len(each), friedman_p(each)
    )


def friedman_p(ranks: NDArray[np.float64]) -> float:
    """The p of the hypothesis that all methods are equal. ranks: (data sets, methods), ties shared.

    Friedman's statistic, corrected for ties, as the F of Iman and Davenport 1980 (Demsar 2006, 3.2.2).
    The approximation can go below the p of full agreement, 1 / (k!)^(N - 1); this is the smallest p.
    """
    sets, k = ranks.shape
    off = ranks - (k + 1) / 2
    total = float((off**2).sum())
    if total == 0:
        return 1.0
    statistic = sets * (k - 1) * sets * float((off.mean(0) ** 2).sum()) / total
    agreement = math.exp((1 - sets) * math.lgamma(k + 1))
    room = sets * (k - 1) - statistic
    if room <= 1e-9 * statistic:
        return agreement
    return max(f_p((sets - 1) * statistic / room, k - 1, (k - 1) * (sets - 1)), agreement)


def _ranked(values: list[float]) -> list[float]:
    """Ranks from 1 for the smallest; equal values share the mean of theirs."""
    return [sum(v < value for v in values) + (1 + sum(v == value for v in values)) / 2 for value in values]
