from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from kdrun.report.sweep_table import text
from kdrun.report.sweep_verdict import comparison, comparisons, flattered, flattered_means, flattery
from kdrun.report.sweeps import Setting, by_repeat, choice, settings
from tests.report.example import failed, grid, job

T = 4.302652729911275
"""The 97.5 % quantile of Student's t with 2 degrees of freedom."""


def test_seeds_are_paired_and_tested_on_test_by_hand() -> None:
    """Gains 0.5, 1.5, 2.5: mean 1.5, std 1, standard error 1 / sqrt(3)."""
    (setting,) = settings([job({"seed": seed}, 1.0 + seed, 80.0 + 3 * seed, seed) for seed in range(3)])
    found = comparison(setting)
    assert found is not None and found.gain == (pytest.approx(1.5), pytest.approx(1.0), 3)
    half = T / math.sqrt(3)
    assert found.interval == (pytest.approx(1.5 - half), pytest.approx(1.5 + half))
    assert (found.verdict, found.needed) == ("TIES", 34)


def test_splits_get_the_corrected_interval_of_their_means() -> None:
    """Gains of three splits 0.5, 1.5, 2.5, two seeds each; 600 images to learn from and 1,000 to test."""
    jobs = [
        job({"dataset.split": split, "seed": seed}, 1.0 + split + (0.1, -0.1)[seed], 87.0, seed)
        for split in range(3)
        for seed in range(2)
    ]
    found = comparison(settings(jobs)[0])
    assert found is not None and found.gain.n == 3 and found.varied == "splits"
    half = T * math.sqrt(1 / 3 + 1000 / 600)
    assert found.interval == (pytest.approx(1.5 - half), pytest.approx(1.5 + half))


def test_methods_are_corrected_over_all_of_them() -> None:
    gains = {"kd": (1.0, 1.1, 1.2), "dkd": (2.0, 2.3, 2.6), "at": (-1.0, 1.0, 3.0)}
    jobs = [
        job({"method": name, "seed": seed}, gain, 87.0, seed)
        for name, each in gains.items()
        for seed, gain in enumerate(each)
    ]
    every = settings(jobs)
    alone = [one.p for setting in every if (one := comparison(setting)) is not None and one.p is not None]
    found = comparisons(every)
    assert [one.verdict for one in found if one is not None] == ["BEATS", "BEATS", "TIES"]
    smallest = min(alone)
    assert min(one.p for one in found if one is not None and one.p is not None) == pytest.approx(3 * smallest)


def test_one_seed_has_no_verdict_and_no_gain_no_comparison() -> None:
    (setting,) = settings([job({"seed": 0}, 1.0)])
    one = comparison(setting)
    assert one is not None and one.verdict is None
    assert comparison(settings([failed({"seed": 0})])[0]) is None


def accuracy(every: Sequence[Setting]) -> list[dict[tuple[str, ...], float]]:
    """On validation, by repeat."""
    return [by_repeat(setting, "student", "validation") for setting in every]


def test_the_choice_flatters_more_if_the_settings_are_alike() -> None:
    def bias(gains: list[float]) -> float:
        every = settings([job({"temperature": t}, gain) for t, gain in enumerate(gains)])
        chosen = choice(every)
        assert chosen is not None
        return flattered_means(accuracy(every), chosen).bias

    assert bias([3.0, 3.0, 3.0, 3.0]) > 1.0 > 0.1 > bias([3.0, -20.0, -20.0, -20.0])


def test_only_complete_settings_are_compared() -> None:
    every = settings(grid())
    chosen = choice(every)
    assert chosen is not None and flattered(every, chosen).shown == pytest.approx(91.5)


def with_answers(kept: bool, repeat: str = "seed") -> list[dict]:  # type: ignore[type-arg]
    """Two settings that are right on the same images but for a few, two repeats each."""
    jobs = [job({"temperature": t, repeat: r}, 3.0 - t) for t in (1, 2) for r in (0, 1)]
    for one in jobs:
        one["right"] = np.arange(197) >= 18 + 2 * one["overrides"]["temperature"] if kept else None
    return jobs


def test_the_answers_to_each_image_tell_what_the_settings_share() -> None:
    found = {}
    for kept in (True, False):
        every = settings(with_answers(kept))
        chosen = choice(every)
        assert chosen is not None
        found[kept] = flattered(every, chosen)
    assert found[True].bias < 0.1 < found[False].bias
    assert found[False].holds.endswith("an upper bound") and not found[True].holds.endswith("bound")


def test_one_run_without_answers_takes_the_upper_bound() -> None:
    jobs = with_answers(True)
    jobs[3]["right"] = None
    every = settings(jobs)
    chosen = choice(every)
    assert chosen is not None and flattered(every, chosen).holds.endswith("an upper bound")


def test_splits_are_not_called_seeds() -> None:
    for kept in (True, False):
        jobs = with_answers(kept, "dataset.split")
        every = settings(jobs)
        chosen = choice(every)
        assert chosen is not None and "2 splits and 197 validation images" in flattery(
            flattered(every, chosen)
        )
        shown = text(jobs, 200)
        assert "seed" not in shown.replace("one teacher serves all seeds", "").replace("seeds would show", "")
