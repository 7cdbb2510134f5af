from __future__ import annotations

import math

import pytest

from kdrun.report.statistics import Spread
from kdrun.report.sweeps import (
    choice,
    key_name,
    means,
    number,
    one_teacher,
    settings,
    shared_control,
    shown_figure,
    shown_part,
    spread,
    swept,
    value_name,
)
from tests.report.example import failed, grid, job


def seeds(temperature: float, gains: list[float], control: float = 87.0) -> list[dict[str, object]]:
    return [
        job({"temperature": temperature, "seed": seed}, gain, control, seed)
        for seed, gain in enumerate(gains)
    ]


def test_numbers_are_one_value_however_written() -> None:
    assert [value_name(value) for value in (2, 2.0, "2", "0.50", None, True, "dkd", [1], ["a", "b"])] == [
        "2", "2", "2", "0.5", "null", "true", "dkd", "[1]", "[a,b]",
    ]  # fmt: skip
    assert value_name(1234567) != value_name(1234568) and value_name(0.1234567) != value_name(0.1234568)
    assert number("nan") is None and number(True) is None and number("1e-3") == 1e-3


def test_key_names_are_short_but_tell() -> None:
    assert [key_name(key) for key in ("temperature", "loss.dkd.beta", "recipe.student.lr")] == [
        "temperature", "dkd.beta", "student.lr",
    ]  # fmt: skip


def test_swept_keys_vary_and_are_no_seeds() -> None:
    jobs = [
        job({"alpha": alpha, "method": "kd", "seed": seed, "dataset.split": 1}, 1.0)
        for alpha in (0.1, 0.9)
        for seed in (0, 1)
    ]
    assert swept(jobs) == ("alpha",)


def test_settings_are_grouped_over_seeds_and_in_order() -> None:
    found = settings(grid())
    assert [tuple(setting.values.values()) for setting in found] == [
        (1, 0.5), (1, 0.9), (2, 0.5), (2, 0.9), (4, 0.5), (4, 0.9),
    ]  # fmt: skip
    assert all(len(setting.jobs) == 3 for setting in found)


def test_words_keep_their_order_and_numbers_as_text_are_sorted() -> None:
    words = [job({"method": name}, 1.0) for name in ("kd", "at", "dkd")]
    assert [setting.values["method"] for setting in settings(words)] == ["kd", "at", "dkd"]
    texts = [job({"temperature": value}, 1.0) for value in ("10", "9", "8.5")]
    assert [setting.values["temperature"] for setting in settings(texts)] == ["8.5", "9", "10"]


def test_means_over_seeds_by_hand() -> None:
    found = settings(grid())
    gain = spread(found[0], "gain", "validation")
    assert gain is not None and gain.n == 3
    assert (gain.mean, gain.std) == (pytest.approx(3.0), pytest.approx(0.2))
    on_test = spread(found[0], "gain", "test")
    assert on_test is not None and on_test.mean == pytest.approx(2.5)
    partly = spread(found[4], "gain", "validation")
    assert partly is not None and partly.n == 2
    assert spread(found[5], "gain", "validation") is None


def test_the_best_is_chosen_on_validation_among_complete_settings() -> None:
    """temperature 4, alpha 0.5 has the highest mean, but of two seeds only."""
    found = settings(grid())
    chosen = choice(found)
    assert chosen is not None and found[chosen.best].values == {"temperature": 2, "alpha": 0.9}
    assert chosen.images == 197 and chosen.best in chosen.within
    assert 4 not in chosen.within and 5 not in chosen.within


def test_the_test_part_chooses_nothing() -> None:
    jobs = [*seeds(1, [1.0, 1.0]), *seeds(2, [3.0, 3.0])]
    for one in jobs[:2]:
        one["report"]["models"]["student"]["last"]["test"]["top1"] = 99.9  # type: ignore[index]
    chosen = choice(settings(jobs))
    assert chosen is not None and chosen.best == 1
    for one in jobs:
        for model in one["report"]["models"].values():  # type: ignore[index]
            del model["last"]["validation"]
    assert choice(settings(jobs)) is None
    assert shown_part(jobs) == "test"


def test_noise_of_the_validation_part_by_hand() -> None:
    """Best 90 % of 197: one standard error is 2.137 points; the seeds differ by nothing."""
    error = 100 * math.sqrt(0.9 * 0.1 / 197)
    jobs = [*seeds(1, [3.0, 3.0]), *seeds(2, [3.0 - error + 0.01] * 2), *seeds(3, [3.0 - error - 0.01] * 2)]
    chosen = choice(settings(jobs))
    assert chosen is not None and chosen.within == {0, 1}


def test_noise_of_the_seeds_by_hand() -> None:
    """Paired differences 1, 3, 5: mean 3, std 2, standard error 1.155; with that of the part 2.43 in all."""
    best, other = [3.0, 3.0, 3.0], [2.0, 0.0, -2.0]
    assert choice(settings([*seeds(1, best), *seeds(2, other)])).within == {0}  # type: ignore[union-attr]
    closer = [gain + 0.6 for gain in other]  # mean 2.4: beyond the part's 2.137, within both
    assert choice(settings([*seeds(1, best), *seeds(2, closer)])).within == {0, 1}  # type: ignore[union-attr]


def test_one_setting_or_none_is_no_choice() -> None:
    assert choice(settings(seeds(1, [1.0, 2.0]))) is None
    assert choice([]) is None
    assert choice(settings([failed({"temperature": 1}), failed({"temperature": 2})])) is None


def test_a_control_is_shared_where_it_is_the_same_for_each_seed() -> None:
    control = shared_control(settings(grid()), "validation")
    assert control == Spread(87.0, 1.0, 3)
    assert shared_control(settings([*seeds(1, [1.0], 80.0), *seeds(2, [1.0], 81.0)]), "validation") is None


def test_the_figure_shown_needs_controls() -> None:
    jobs = seeds(1, [1.0])
    assert shown_figure(jobs, "validation") == "gain"
    del jobs[0]["report"]["models"]["control"]  # type: ignore[index]
    assert shown_figure(jobs, "validation") == "student"


def test_one_teacher_is_noticed() -> None:
    jobs = seeds(1, [1.0, 2.0])
    assert one_teacher(settings(jobs))
    jobs[1]["report"]["seeds"]["teacher"] = 1  # type: ignore[index]
    assert not one_teacher(settings(jobs))
    assert not one_teacher(settings(seeds(1, [1.0])))


def test_what_means_are_over() -> None:
    assert means(settings(seeds(1, [1.0]))) == "one seed"
    assert means(settings(seeds(1, [1.0, 2.0]))) == "mean +- std of 2 seeds"
    assert means(settings(grid())) == "mean +- std of up to 3 seeds"
    splits = [job({"dataset.split": split, "seed": seed}, 1.0) for split in (0, 1) for seed in (0, 1)]
    assert means(settings(splits)) == "mean +- std of 4 repeats (seed, dataset.split)"
    assert (
        means(settings([one for one in splits if one["overrides"]["seed"] == 0])) == "mean +- std of 2 splits"
    )
