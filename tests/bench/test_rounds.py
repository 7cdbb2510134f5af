"""What a benchmark concludes from its rounds."""

from __future__ import annotations

import pytest

from tests.bench.ratios import mean, ratios, slope, spread, verdict


def test_ratios_are_taken_round_by_round() -> None:
    # Both arms are slow in the third round: a ratio of medians would say 2.5, the rounds say 2.
    assert ratios([10, 10, 100], [5, 4, 50]) == (2.0, 2.0, 2.5)
    assert str(spread([1.0, 3.0, 1.234])) == "1.23 [1.00 3.00]"
    with pytest.raises(ValueError, match="shorter"):
        ratios([1, 2], [1])


@pytest.mark.parametrize(
    ("base", "other", "said"),
    [
        ([2] * 7, [1] * 6 + [1.9], "faster"),
        ([1] * 7, [2] * 6 + [1.1], "slower"),
        ([2] * 7, [1] * 6 + [2], "undecided"),  # one round without a difference
        ([9] * 6 + [1], [1] * 6 + [2], "undecided"),  # a clear median is not enough
        ([2] * 6, [1] * 6, "too few rounds"),
    ],
)
def test_no_winner_where_the_range_holds_1(base: list[float], other: list[float], said: str) -> None:
    assert verdict(base, other) == said


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0, 2.0])
def test_the_slope_is_the_power(power: float) -> None:
    sizes = [1, 2, 4, 8]
    assert slope(sizes, [3 * size**power for size in sizes]) == pytest.approx(power)


def test_a_mean_comes_with_students_interval() -> None:
    found = mean([1.0, 2.0, 3.0])  # sd 1: 2 +- 4.303 / sqrt(3)
    assert found == pytest.approx((2.0, -0.4844, 4.4844, 3), abs=1e-3)
    assert mean([1.0, 1.0]) == (1.0, 1.0, 1.0, 2)
