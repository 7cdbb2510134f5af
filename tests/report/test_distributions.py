"""The numeric routines against printed tables, and against scipy, which only tests have."""

from __future__ import annotations

import math

import pytest
from scipy import stats

from kdrun.report.distributions import beta_share, f_p, t_cdf, t_p, t_power, t_quantile

DEGREES = (1, 2, 3, 4, 9, 30, 1000)


@pytest.mark.parametrize(
    ("df", "printed"), [(1, 12.706), (2, 4.303), (4, 2.776), (9, 2.262), (30, 2.042), (120, 1.980)]
)
def test_the_quantiles_that_textbooks_print(df: int, printed: float) -> None:
    assert round(t_quantile(0.975, df), 3) == printed
    assert t_quantile(0.025, df) == pytest.approx(-t_quantile(0.975, df))
    assert t_quantile(0.5, df) == 0


@pytest.mark.parametrize("df", DEGREES)
@pytest.mark.parametrize("p", [0.001, 0.025, 0.4, 0.6, 0.9, 0.975, 0.9999])
def test_quantiles(df: int, p: float) -> None:
    assert t_quantile(p, df) == pytest.approx(stats.t.ppf(p, df), rel=1e-9)


@pytest.mark.parametrize("df", DEGREES)
@pytest.mark.parametrize("t", [-60.0, -1.0, 0.0, 0.1, 1.0, 5.0, 60.0, 1e4])
def test_distribution_and_p(df: int, t: float) -> None:
    assert t_cdf(t, df) == pytest.approx(stats.t.cdf(t, df), rel=1e-9)
    assert t_p(t, df) == pytest.approx(2 * stats.t.sf(abs(t), df), rel=1e-9)


@pytest.mark.parametrize(("f", "above", "below"), [(3, 2, 10), (0.2, 3, 40), (9, 1, 4), (3.69, 3, 39)])
def test_f(f: float, above: int, below: int) -> None:
    assert f_p(f, above, below) == pytest.approx(stats.f.sf(f, above, below), rel=1e-9)
    assert f_p(0, above, below) == 1


def test_the_incomplete_beta_function_by_hand() -> None:
    assert beta_share(0.3, 1, 1) == pytest.approx(0.3)
    assert beta_share(0.5, 2, 3) == pytest.approx(11 / 16)
    assert (beta_share(0, 2, 3), beta_share(1, 2, 3)) == (0, 1)


@pytest.mark.parametrize("n", [2, 3, 5, 10, 50, 300])
@pytest.mark.parametrize("effect", [0.0, 0.1, 0.5, 1.0, 3.0])
def test_power_is_that_of_the_noncentral_t(n: int, effect: float) -> None:
    critical = stats.t.ppf(0.975, n - 1)
    expected = stats.nct.sf(critical, n - 1, effect * math.sqrt(n))
    assert t_power(effect, n) == pytest.approx(expected, abs=1e-5)


def test_the_power_that_tables_print() -> None:
    # Half a standard deviation needs 34 pairs for a power of 0.8 on the level 0.05 (Cohen 1988).
    assert t_power(0.5, 33) < 0.8 < t_power(0.5, 34)
