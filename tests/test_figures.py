from __future__ import annotations

import pytest

from kdrun import figures


@pytest.mark.parametrize(
    ("value", "text"),
    [(3.84, "+3.8"), (-0.26, "-0.3"), (0.0, "0.0"), (-0.04, "0.0"), (0.04, "0.0"), (10.0, "+10.0")],
)
def test_signed(value: float, text: str) -> None:
    assert figures.signed(value) == text


def test_signed_with_two_digits() -> None:
    assert figures.signed(0.04, 2) == "+0.04"
    assert figures.signed(-0.004, 2) == "0.00"


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (994, "994"), (3776, "3.78 k"), (969344, "969 k"), (999_900, "1.00 M"), (1.083e9, "1.08 G")],
)
def test_short(value: float, text: str) -> None:
    assert figures.short(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0246, "0.0246"), (0.0997, "0.0997"), (0.1, "0.100"), (1.234, "1.23"), (9.996, "10.0"),
     (12.34, "12.3"), (99.96, "100"), (1234.5, "1,234")],
)  # fmt: skip
def test_three_digits(value: float, text: str) -> None:
    assert figures.three_digits(value) == text


def test_the_others() -> None:
    assert figures.percent(90.449) == "90.4"
    assert figures.count(121994) == "121,994"
    assert [figures.times(x) for x in (2.72, 9.96, 122.7)] == ["2.7 x", "10 x", "123 x"]
    assert [figures.duration(x) for x in (0.4, 59.6, 754, 3723)] == ["0:00", "1:00", "12:34", "1:02:03"]
    assert [figures.p_value(x) for x in (0.0004, 0.0312, 1.0)] == ["< 0.001", "= 0.031", "= 1.000"]
    assert [figures.plural(x, "image") for x in (0, 1, 1000)] == ["0 images", "1 image", "1,000 images"]
    assert [figures.file_size(x) for x in (12, 487976)] == ["12 B", "488 kB"]
