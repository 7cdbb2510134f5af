from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from kdrun.report.soft import (
    entropy,
    largest,
    most_uncertain,
    share_text,
    softened,
    spaced,
    temperature_of,
)


def test_soft_targets_by_hand() -> None:
    logits = np.log([8.0, 1.0, 1.0])
    assert softened(logits, 1) == pytest.approx([0.8, 0.1, 0.1])
    roots = np.array([2.0, 1.0, 1.0])  # the third root of 8 at T = 3
    assert softened(logits, 3) == pytest.approx(roots / roots.sum())
    assert softened([1e4, 0.0], 1) == pytest.approx([1, 0])
    assert entropy([0.25] * 4) == pytest.approx(math.log(4)) and entropy([1.0, 0.0]) == 0


def test_they_equal_torch() -> None:
    torch = pytest.importorskip("torch")
    logits = torch.randn(20, 7, dtype=torch.float64)
    assert softened(logits.numpy(), 4.0) == pytest.approx((logits / 4).softmax(1).numpy())


def test_the_most_uncertain_of_each_class_whoever_is_right() -> None:
    logits = np.array([[9.0, 0], [1, 0], [0, 1], [0, 0.1], [0, 9], [np.nan, 0], [0, 0]])
    labels = np.array([0, 0, 0, 1, 1, 1, -1])
    assert most_uncertain(logits, labels, 1.0) == [1, 3], "a tie goes to the first; no NaN, no unknown class"
    assert most_uncertain(logits, labels, 1.0, 2) == [1, 2, 3, 4]
    assert spaced([3, 5, 7, 9], 2) == [3, 7] and spaced([3], 2) == [3]


def test_words() -> None:
    assert [share_text(share) for share in (0.62, 0.13, 0.07)] == ["62 %", "13 %", "7.0 %"]
    shares = (1.0, 0.9999, 0.998, 0.98, 0.0004, 0.0)
    assert [share_text(share) for share in shares] == ["100 %", ">99.9 %", "99.8 %", "98 %", "<0.1 %", "0 %"]
    assert largest([0.1, 0.7, 0.2], 2) == [1, 2]


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"temperature": 4.0}, 4.0),
        ({"temperature": None}, None),
        ({"temperature": {"from": 8, "to": 2, "epochs": 3}}, 2.0),
        ({"temperature": 4.0, "loss": {"hard": {}, "soft": {"temperature": 3}}}, 3.0),
    ],
)
def test_the_temperature_of_a_run(config: dict[str, Any], expected: float | None) -> None:
    assert temperature_of(config) == expected
