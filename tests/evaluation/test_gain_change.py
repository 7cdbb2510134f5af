"""The change of a gain, against hand values."""

from __future__ import annotations

import math

import pytest
import torch

from kdrun.evaluation.gain_change import gain_change


def answers(*classes: int) -> torch.Tensor:
    return torch.eye(3)[list(classes)]


def test_it_is_the_mean_of_what_each_image_gives() -> None:
    labels = torch.tensor([0, 0, 0, 0, -1])
    now = (
        answers(0, 0, 1, 0, 0),
        answers(0, 1, 1, 1, 0),
    )  # 0 1 0 1
    before = answers(0, 1, 1, 0, 0), answers(0, 0, 1, 0, 0)  # 0 -1 0 0
    change, (low, high), n = gain_change(now, before, labels)
    assert (change, n) == (75.0, 4)  # 0 2 0 1
    spread = math.sqrt(sum((value - 0.75) ** 2 for value in (0, 2, 0, 1)) / 3)
    assert high - change == pytest.approx(100 * 1.959964 * spread / 2, rel=1e-5)
    assert change - low == pytest.approx(high - change)


def test_the_same_pair_has_not_changed_and_one_image_says_nothing() -> None:
    labels, pair = torch.tensor([0, 1, 2]), (answers(0, 1, 1), answers(0, 0, 2))
    assert gain_change(pair, pair, labels)[:2] == (0.0, (0.0, 0.0))
    with pytest.raises(ValueError, match="two labelled"):
        gain_change((pair[0][:1], pair[1][:1]), (pair[0][:1], pair[1][:1]), labels[:1])
