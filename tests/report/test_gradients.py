"""What is said of gradients: medians, and a term that decides alone."""

from __future__ import annotations

from typing import Any

from kdrun.report.gradients import sentence, summary


def rows(*hint: float, hard: float = 1.0) -> list[dict[str, Any]]:
    return [
        {"gradients": {"hard": {"norm": hard, "cosine": 1.0}, "hint": {"norm": norm, "cosine": 0.25}}}
        for norm in hint
    ]


def test_a_term_dominates_above_ten_times_the_others() -> None:
    found = summary(rows(9.0, 10.0, 10.5, 30.0))
    assert found is not None
    assert found["epochs"] == 4
    assert found["dominant"] == {"hint": 2}
    assert found["terms"]["hint"] == {"norm": 10.25, "cosine": 0.25}
    text = sentence(found)
    assert "the gradient of **hint** on the student, weighted, was more than 10 times as long" in text
    assert "after 2 of them" in text
    assert "hint 10.2, cosine to cross-entropy's 0.25" in text


def test_no_term_dominates() -> None:
    found = summary(rows(2.0, 3.0))
    assert found is not None
    assert "dominant" not in found or not found["dominant"]
    assert "the gradient of no term on the student" in sentence(found)


def test_one_term_alone_dominates_nothing() -> None:
    found = summary([{"gradients": {"soft": {"norm": 1.0}}}])
    assert found is not None
    assert sentence(found) == "There is one term, so none dominates; medians over the epochs: soft 1."


def test_rows_without_gradients_say_nothing() -> None:
    assert summary([]) is None
    assert summary([{"epoch": 1}, {"gradients": {}}]) is None
