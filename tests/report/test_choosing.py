"""The winner's bias."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from kdrun.report.choosing import winner, winner_of_means

# Three that are right on half of the images each, independently of each other.
EQUAL = np.array([bits for bits in itertools.product((0, 1), repeat=3) for _ in range(50)]).T[:, None, :]


def test_the_best_of_equals_shows_the_largest_of_the_noise() -> None:
    found = winner(EQUAL, draws=4000)
    noise = 100 * math.sqrt(0.25 / 400)
    assert found.bias == pytest.approx(0.8463 * noise, rel=0.05)  # the mean of the largest of three normals
    assert (found.shown, found.holds) == (50.0, "400 validation images only: one seed each")


def test_copies_of_one_have_no_winner() -> None:
    assert winner(EQUAL[[0, 0, 0]]).bias == pytest.approx(0, abs=0.15)
    assert winner(EQUAL[[0, 0, 0]]).bias < 0.1 * winner_of_means(EQUAL[[0, 0, 0]].mean(2) * 100, 400).bias


def test_a_clear_winner_is_hardly_flattered() -> None:
    clear = EQUAL.copy()
    clear[1] |= clear[0]
    clear[1] |= clear[2]
    found = winner(clear)
    assert found.position == 1 and found.bias < 0.15


def test_seeds_are_drawn_too() -> None:
    accuracy = [[70.0, 72.0, 74.0], [74.0, 72.0, 70.0]]
    many = winner_of_means(accuracy, images=10**9)
    assert many.bias > 0.5 and many.holds == "3 seeds and 1,000,000,000 validation images; an upper bound"
    one = winner_of_means([[72.0], [71.9]], images=10**9)
    assert one.bias == pytest.approx(0, abs=0.01) and "only: one seed each" in one.holds


def test_the_same_draws_each_time() -> None:
    assert winner(EQUAL, draws=50) == winner(EQUAL, draws=50)


def test_by_hand_of_two_images_and_one_seed() -> None:
    """The first is right on image one, the second on image two. Drawn twice, one image (a half): the lucky
    one shows 100, 50 above; both (a half): each shows 50. So the bias is 25."""
    found = winner([[[1, 0]], [[0, 1]]], draws=20_000)
    assert found.shown == 50 and found.bias == pytest.approx(25, abs=0.5)


def test_by_hand_of_two_seeds_of_two_splits() -> None:
    """Splits draw images of their own: the first is right on all of split a, the second on all of split b.
    Which images are drawn does not matter; a split twice (a half) shows 100, else 50: the bias is 25."""
    a, b = [1, 1, 1], [0, 0, 0]
    found = winner([[a, b], [b, a]], draws=20_000, splits=["a", "b"], noun="split")
    assert found.bias == pytest.approx(25, abs=0.5) and found.holds == "2 splits and 3 validation images"


def test_splits_are_drawn_apart_and_seeds_of_one_split_together() -> None:
    """Two of equal accuracy: over shared images luck adds up. Apart, it evens out in the half of the draws
    that has both splits: the deviation is 1 / sqrt(2) there."""
    half = np.array([1, 0] * 50)
    correct = [[half, half], [1 - half, 1 - half]]
    together, apart = (winner(correct, splits=splits).bias for splits in ([0, 0], [0, 1]))
    assert together == pytest.approx(2 / (1 + 1 / math.sqrt(2)) * apart, rel=0.05)
