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
    assert found.corrected == found.shown - found.bias


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
