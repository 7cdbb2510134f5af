"""Intervals, verdicts and corrections against values worked out by hand, or printed where the method was."""

from __future__ import annotations

import math
import random

import pytest
from scipy import stats

from kdrun.report.statistics import (
    Spread,
    against_control,
    compare,
    holm,
    marks,
    noise_of,
    overlapping_splits,
    seeds_needed,
    shared,
    spread,
)

SLEEP = [1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4]
"""Hours of sleep gained by ten patients: the example of Student 1908."""


def test_spread() -> None:
    assert spread([1.0, 2.0, 4.5]) == Spread(2.5, pytest.approx(math.sqrt(3.25)), 3)
    assert spread([7.0]) == Spread(7.0, None, 1)


def test_pairs_are_those_that_both_have() -> None:
    assert shared({0: 5.0, 1: 6.0, 2: 7.0}, {1: 5.5, 2: 7.5, 3: 0.0}) == [0.5, -0.5]


def test_students_own_example() -> None:
    found = compare(SLEEP, "patient")
    assert found.gain.mean == pytest.approx(1.58) and found.gain.n == 10
    assert found.p == pytest.approx(0.002833, abs=1e-6)
    assert found.interval == (pytest.approx(0.7001, abs=1e-4), pytest.approx(2.4599, abs=1e-4))
    assert (found.verdict, found.test, found.varied) == (
        "BEATS",
        "paired t test over 10 patients",
        "patients",
    )


def test_the_paired_test_is_scipys() -> None:
    source = random.Random(0)
    for n in (2, 3, 5, 20):
        first, second = ([source.gauss(70, 1) for _ in range(n)] for _ in range(2))
        expected = stats.ttest_rel(first, second)
        found = compare([a - b for a, b in zip(first, second, strict=True)])
        assert found.p == pytest.approx(expected.pvalue, rel=1e-9)
        assert found.interval == pytest.approx(tuple(expected.confidence_interval()), rel=1e-9)


@pytest.mark.parametrize(
    ("gains", "verdict"),
    [([1.0, 1.2, 0.9], "BEATS"), ([-1.0, -1.2, -0.9], "LOSES"), ([1.0, -0.5, 0.2], "TIES")],
)
def test_verdicts(gains: list[float], verdict: str) -> None:
    found = compare(gains)
    assert found.verdict == verdict
    assert found.interval is not None and (verdict == "TIES") == (found.interval[0] <= 0 <= found.interval[1])


def test_one_seed_gives_no_verdict() -> None:
    found = compare([3.0])
    assert (found.verdict, found.interval, found.p, found.test) == (None, None, None, "no test: one seed")
    assert str(found) == "no verdict: +3.0 points (no test: one seed)"


def test_equal_gains_are_no_certainty() -> None:
    assert compare([0.4, 0.4]).verdict is None
    assert compare([0.0, 0.0, 0.0]).verdict == "TIES"
    assert compare([0.4, 0.4]).test == "no test: all 2 gains are equal"


def test_it_says_what_it_did() -> None:
    assert str(compare([1.2, 0.9, 1.6, 1.1, 0.4])) == (
        "BEATS: +1.0 points (95 % interval +0.5 to +1.6, p = 0.006: paired t test over 5 seeds; "
        "9 seeds would show 0.5 points)"
    )
    assert "+0.04 points" in str(compare([0.02, -0.3, 0.4]))  # not a bare 0.0


def test_seeds_that_would_show_half_a_point() -> None:
    # Effects of 1 / 2 and 1 / 1: 34 and 10 pairs, as tables of the t test's power print (Cohen 1988).
    assert (seeds_needed(1.0), seeds_needed(0.5)) == (34, 10)
    assert (seeds_needed(1.0, gap=1.0), seeds_needed(0.0), seeds_needed(1e4)) == (10, 2, None)
    assert seeds_needed(0.5, power=0.95) == 16
    assert compare([0.0, 1.0, 2.0]).needed == 34


def test_splits_that_share_images_tell_less() -> None:
    # Five splits, 600 images learned from and 1,000 tested on: (1/5 + 1000/600) in place of 1/5.
    gains = [2.8, 3.0, 3.2, 3.3, 3.7]
    plain, corrected = compare(gains, "split"), overlapping_splits(gains, train=600, test=1000)
    assert plain.interval is not None and corrected.interval is not None
    widths = [high - low for low, high in (plain.interval, corrected.interval)]
    assert widths[1] / widths[0] == pytest.approx(math.sqrt((1 / 5 + 1000 / 600) * 5))
    error = stats.tstd(gains) * math.sqrt(1 / 5 + 1000 / 600)
    assert corrected.interval == pytest.approx(stats.t.interval(0.95, 4, 3.2, error))
    assert corrected.p == pytest.approx(2 * stats.t.sf(3.2 / error, 4))
    assert (corrected.varied, corrected.needed) == ("splits", None)
    assert corrected.test == "corrected t test over 5 splits"


def test_the_interval_of_the_front_page() -> None:
    # Its plain interval was 3.2 +- 0.45 over five splits.
    std = 0.45 * math.sqrt(5) / stats.t.ppf(0.975, 4)
    gains = [3.2 + std * z * math.sqrt(4 / 10) for z in (-2.0, -1.0, 0.0, 1.0, 2.0)]
    interval = overlapping_splits(gains, train=600, test=1000).interval
    assert interval is not None and [round(edge, 1) for edge in interval] == [1.8, 4.6]


def test_holms_steps_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([0.2]) == [0.2] and holm([]) == []


def test_one_of_many_methods_needs_more_to_be_believed() -> None:
    control = {0: 70.0, 1: 70.4, 2: 69.8}
    good = {0: 71.0, 1: 71.6, 2: 70.7}
    alone = against_control({"good": good}, control)["good"]
    assert (alone.verdict, alone.test) == ("BEATS", "paired t test over 3 seeds")
    noise = {f"noise {i}": {0: 70.1 + i / 10, 1: 70.2, 2: 70.3} for i in range(9)}
    among = against_control({"good": good, **noise}, control)["good"]
    assert alone.p is not None and among.p == pytest.approx(10 * alone.p)
    assert (among.verdict, among.test) == ("TIES", "paired t test over 3 seeds, Holm over 10 methods")
    assert among.interval == alone.interval


def test_a_method_without_a_common_seed_is_left_out() -> None:
    assert list(against_control({"a": {5: 1.0}, "b": {0: 1.0}}, {0: 0.5})) == ["b"]
    assert against_control({"b": {0: 1.0}}, {0: 0.5})["b"].verdict is None


def test_the_best_and_its_ties() -> None:
    methods = {
        "worst": {0: 70.0, 1: 70.5, 2: 71.1},
        "best": {0: 75.0, 1: 75.4, 2: 76.2},
        "near": {0: 75.3, 1: 75.1, 2: 75.9},
        "once": {0: 75.0},
    }
    assert marks(methods) == {"best": "best", "near": "tie"}
    assert marks({"once": {0: 80.0}, "near": methods["near"]}) == {}  # one seed wins nothing
    assert marks({"best": methods["best"]}) == {}


def test_one_seed_holds_the_noise_of_images_only() -> None:
    assert noise_of(1, 5000) == "5,000 validation images only: one seed each"
    assert noise_of(3, 5000) == "3 seeds and 5,000 validation images"
    assert noise_of(3, 197, "test") == "3 seeds and 197 test images"
