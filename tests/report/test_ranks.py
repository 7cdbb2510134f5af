"""Ranks over data sets."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from kdrun.report.ranks import friedman_p, mean_ranks

SCORES = {
    "a": {"kd": 70.0, "dkd": 72.0, "crd": 73.0},
    "b": {"kd": 81.0, "dkd": 83.0, "crd": 82.0},
    "c": {"kd": 60.0, "dkd": 61.0, "crd": 62.0},
    "d": {"kd": 55.0, "dkd": 51.0, "crd": 57.0},
}


def test_mean_ranks_by_hand() -> None:
    found = mean_ranks(SCORES)
    assert {name: rank.mean for name, rank in found.methods.items()} == {"crd": 1.25, "dkd": 2.0, "kd": 2.75}
    assert list(found.methods) == ["crd", "dkd", "kd"] and found.sets == 4
    assert all(rank.low <= rank.mean <= rank.high for rank in found.methods.values())
    assert (found.methods["crd"].low, found.methods["crd"].high) == (1.0, 1.75)
    assert mean_ranks(SCORES) == found  # the same draws each time


def test_equal_scores_share_their_ranks() -> None:
    rows = {str(i): {"a": 1.0, "b": 1.0, "c": 0.0} for i in range(3)}
    assert {name: rank.mean for name, rank in mean_ranks(rows).methods.items()} == {
        "a": 1.5,
        "b": 1.5,
        "c": 3,
    }


def test_a_method_that_a_data_set_lacks_is_left_out() -> None:
    rows = {**SCORES, "e": {"kd": 1.0, "crd": 2.0}}
    assert list(mean_ranks(rows).methods) == ["crd", "kd"]
    with pytest.raises(ValueError, match="two of each"):
        mean_ranks({"a": SCORES["a"]})


@pytest.mark.parametrize("values", [1000, 3])  # without and with ties
def test_friedmans_test_is_scipys_with_the_f_of_iman_and_davenport(values: int) -> None:
    source = np.random.default_rng(values)
    for sets, k in ((5, 3), (14, 4), (30, 8)):
        ranks = stats.rankdata(source.integers(values, size=(sets, k)), axis=1)
        chi2 = stats.friedmanchisquare(*ranks.T).statistic
        f = (sets - 1) * chi2 / (sets * (k - 1) - chi2)
        assert friedman_p(ranks) == pytest.approx(stats.f.sf(f, k - 1, (k - 1) * (sets - 1)), rel=1e-6)


def test_friedmans_test_on_the_ranks_of_demsar_2006() -> None:
    # Table 6 there: mean ranks of four methods on 14 data sets, chi2 = 9.28, F = 3.69.
    means = np.array([3.143, 2.000, 2.893, 1.964])
    chi2 = 12 * 14 / (4 * 5) * ((means**2).sum() - 4 * 25 / 4)
    assert chi2 == pytest.approx(9.28, abs=0.01)
    assert 13 * chi2 / (14 * 3 - chi2) == pytest.approx(3.69, abs=0.01)


def test_full_agreement_and_none() -> None:
    agreed = np.tile([1.0, 2.0, 3.0], (4, 1))
    assert friedman_p(agreed) == pytest.approx(math.factorial(3) ** -3)
    assert friedman_p(np.full((4, 3), 2.0)) == 1
