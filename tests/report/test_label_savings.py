"""Labels saved: the control's curve read across, by hand, and what a sweep says of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kdrun.report.label_savings import Curves, curves, labels_for, rising, savings, sentences
from kdrun.report.plots import COLOURS
from kdrun.report.sweep_plots import draw
from tests.report.example import job
from tests.report.pictures import coloured, pixels

LABELS = np.array([30.0, 60.0, 120.0, 480.0])


def test_the_nearest_rising_values() -> None:
    assert rising(np.array([1.0, 2.0, 3.0])).tolist() == [1, 2, 3]
    assert rising(np.array([3.0, 1.0, 2.0, 5.0, 4.0])).tolist() == [2, 2, 2, 4.5, 4.5]


@pytest.mark.parametrize(
    ("accuracy", "expected"),
    [
        (80.0, (30, 0)),
        (85.0, (30 * 2**0.5, 0)),  # half of the way from 30 to 60, over the logarithm
        (95.0, (240, 0)),
        (96.0, (480 * 0.25**0.4, 0)),
        (79.9, (30, -1)),
        (100.1, (480, 1)),
    ],
)
def test_the_labels_of_an_accuracy(accuracy: float, expected: tuple[float, int]) -> None:
    labels, side = labels_for(accuracy, LABELS, np.array([80.0, 90.0, 90.0, 100.0]))
    assert (pytest.approx(labels), side) == expected


def test_where_the_curve_is_flat_the_fewest_labels_count() -> None:
    assert labels_for(90.0, LABELS, np.array([80.0, 90.0, 90.0, 100.0])) == (60.0, 0)


def found(student: Any, control: Any, units: Any = None) -> Curves:
    student, control = np.array(student, float), np.array(control, float)
    each = np.arange(student.shape[1]) if units is None else np.array(units)
    return Curves(LABELS[: len(student)], 600, student, control, each, "seed")


def test_an_interval_holds_the_seeds_and_whole_units_are_drawn() -> None:
    gains = np.array([[0.0, 4.0, 8.0, 12.0]])
    control = np.array([[70.0], [80.0], [90.0], [100.0]]) + 0 * gains
    every = savings(found(control + gains, control))
    assert every[0].interval is not None
    low, high = every[0].interval
    assert every[0].saved == pytest.approx(1 - 2**-0.6) and low < every[0].saved < high
    assert low >= 0 and high <= 1 - 2**-1 / 2**0.2 + 1e-9  # no draw is beyond all seeds
    assert every[3].side == 1 and every[3].saved == 0
    alike = savings(found(control + gains, control, units=[0, 0, 1, 1]))
    assert alike[0].interval is not None and alike[0].interval[0] >= 1 - 2**-0.2 - 1e-9
    assert savings(found(control[:, :1] + 5, control[:, :1]))[0].interval is None


def swept(gain: float, keys: tuple[str, ...] = ("dataset.labelled",)) -> list[Any]:
    jobs = []
    for labelled, control in ((3, 80.0), (6, 85.0), (12, 90.0)):
        for seed in (0, 1):
            made = job({keys[0]: labelled, "seed": seed}, gain, control + seed, seed)
            made["report"]["dataset"] = {**made["report"]["dataset"], "labelled": 10 * labelled}
            jobs.append(made)
    return jobs


def test_what_a_sweep_says() -> None:
    first, second = sentences(swept(3.0))
    assert first.startswith(
        "distilled with 5 % of the labels equals trained alone with 7.1 %: 29 % of the labels saved (95 % int"
    )
    assert "bootstrap over 2 seeds, on test" in first
    assert second == "Likewise 10 % = 14 %, 20 % = more than 20 %."
    assert sentences(swept(40.0)) == [
        "no number of labels saved: the distilled students are better than every control with 5 to 20 % of "
        "the labels, on test."
    ]
    assert sentences(swept(3.0, ("temperature",))) == [] and curves([]) is None


def test_the_picture(tmp_path: Path) -> None:
    assert draw(tmp_path, swept(3.0)) == ["lines.png", "label_savings.png"]
    image = pixels(tmp_path / "label_savings.png")
    assert all(coloured(image, colour) > 200 for colour in (COLOURS["student"], COLOURS["control"]))
    assert draw(tmp_path, swept(3.0, ("temperature",))) == ["lines.png"]
    assert not (tmp_path / "label_savings.png").exists()
