from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from kdrun.progress.record import CurveDrawer
from kdrun.report.curve_panels import panels
from kdrun.report.plots import COLOURS, confusion, curves
from tests.report.pictures import coloured, pixels


def rows(
    stages: tuple[str, ...] = ("teacher", "student", "control"), epochs: int = 12
) -> list[dict[str, Any]]:
    return [
        {
            "stage": stage,
            "epoch": epoch,
            "epochs": epochs,
            "lr": 0.1 / epoch,
            "loss": 2.0 / epoch,
            "terms": {"hard": 1.0 / epoch, "soft": 0.3},
            "validation": {"top1": 90.0 - 50 / epoch + 2 * place, "nll": 0.3},
            "seconds": 0.1,
        }
        for place, stage in enumerate(stages)
        for epoch in range(1, epochs + 1)
    ]


def test_curves_show_every_role_in_its_colour(tmp_path: Path) -> None:
    curves(tmp_path / "curves.png", rows())
    image = pixels(tmp_path / "curves.png")
    assert image.shape == (720, 1500, 3)
    assert all(coloured(image, colour) > 200 for colour in COLOURS.values())


def test_curves_without_validation_have_a_panel_less(tmp_path: Path) -> None:
    bare = [{key: value for key, value in row.items() if key != "validation"} for row in rows(("student",))]
    curves(tmp_path / "curves.png", bare)
    assert pixels(tmp_path / "curves.png").shape == (360, 1500, 3)


@pytest.mark.parametrize("value", [float("nan"), 0.0, -3.0])
def test_curves_of_odd_losses_are_drawn(tmp_path: Path, value: float) -> None:
    odd = [{**row, "loss": value, "terms": {"hard": value}} for row in rows()]
    curves(tmp_path / "curves.png", odd)
    assert pixels(tmp_path / "curves.png").std() > 10


def test_a_single_epoch_is_visible(tmp_path: Path) -> None:
    curves(tmp_path / "curves.png", rows(("student",), epochs=1))
    assert coloured(pixels(tmp_path / "curves.png")[:300, 100:400], COLOURS["student"]) > 10


def test_the_epoch_of_the_headline_is_marked_and_the_pair_is_the_title(tmp_path: Path) -> None:
    both = rows(("teacher", "student"))
    curves(tmp_path / "plain.png", both)
    curves(tmp_path / "marked.png", both, "big → small, digits", {"teacher": 12, "student": 4})
    plain, marked = pixels(tmp_path / "plain.png"), pixels(tmp_path / "marked.png")
    assert marked.shape[0] > plain.shape[0]
    for role in ("teacher", "student"):
        assert coloured(marked[:, :1000], COLOURS[role]) > coloured(plain[:, :1000], COLOURS[role]) + 20


def test_curves_are_drawn_while_a_run_trains_but_seldom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, data = SimpleNamespace(name="small"), SimpleNamespace(name="digits")
    training = SimpleNamespace(folder=tmp_path, kind="student", name="student", model=model, loaded=False)
    plan: Any = SimpleNamespace(
        folder=tmp_path,
        trainings=[training],
        teachers=[],
        student=training,
        ground=SimpleNamespace(data=data),
    )
    lines = [json.dumps(row) + "\n" for row in rows(("student",))]
    (tmp_path / "metrics.jsonl").write_text("".join(lines))
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    follower, picture = CurveDrawer(plan), tmp_path / "curves.png"
    for seconds, drawn in ((59.0, False), (2.0, True), (30.0, False), (31.0, True)):
        now[0] += seconds
        picture.unlink(missing_ok=True)
        follower.epoch({})
        assert picture.exists() == drawn


def test_curves_of_nothing_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no epoch"):
        curves(tmp_path / "curves.png", [])


ODD = ["$^$", "cost_$5_$6", r"\frac", "caf\udce9", "日本", "a_b^c"]
"""Names of folders that are no mathematics, no UTF-8, or not in the font."""


@pytest.mark.parametrize("times", [1, 6])
def test_classes_of_any_name_are_drawn(tmp_path: Path, times: int) -> None:
    names = [f"{name}{' ' * place}" for place in range(times) for name in ODD]
    confusion(tmp_path / "odd.png", {"student": np.ones((len(names),) * 2, dtype=int)}, names)
    assert coloured(pixels(tmp_path / "odd.png"), COLOURS["student"]) > 50


@pytest.mark.parametrize("classes", [2, 10, 20, 100, 1000])
def test_confusion_of_any_number_of_classes(tmp_path: Path, classes: int) -> None:
    matrix = 5 * np.eye(classes, dtype=int)
    matrix[0, 1] = 3
    names = [f"a class with a long name {i}" for i in range(classes)]
    confusion(tmp_path / "confusion.png", {"student": matrix.tolist(), "control": matrix}, names)
    high, wide, _ = pixels(tmp_path / "confusion.png").shape
    assert 400 <= high <= 1100 and 900 <= wide <= 2100
    assert pixels(tmp_path / "confusion.png").std() > 5


@pytest.mark.parametrize("classes", [10, 100])
def test_matrices_of_many_controls_are_in_rows(tmp_path: Path, classes: int) -> None:
    matrix = 5 * np.eye(classes, dtype=int)
    names = [str(number) for number in range(classes)]
    roles = ("teacher", "student", "control", "control_self", "control_longer")
    confusion(tmp_path / "few.png", {role: matrix for role in roles[:3]}, names)
    confusion(tmp_path / "many.png", {role: matrix for role in roles}, names)
    few, many = pixels(tmp_path / "few.png").shape, pixels(tmp_path / "many.png").shape
    assert many[:2] == (2 * few[0], few[1])


def test_beside_other_controls_the_plain_one_is_called_plain() -> None:
    several = panels(rows(("student", "control", "control_self")), {})[0].lines
    assert [line.name.split()[0] for line in several] == ["student", "plain", "self"]
    assert panels(rows(("student", "control")), {})[0].lines[1].name.startswith("control ")


def test_right_and_wrong_have_different_colours(tmp_path: Path) -> None:
    def blue_and_orange(matrix: list[list[int]]) -> tuple[bool, bool]:
        confusion(tmp_path / "confusion.png", {"student": matrix}, ["a", "b"])
        cells = pixels(tmp_path / "confusion.png")[100:-60, 60:-40].astype(int)
        surplus = cells[..., 2] - cells[..., 0]
        return bool((surplus > 60).sum() > 5000), bool((surplus < -60).sum() > 5000)

    assert blue_and_orange([[9, 0], [0, 9]]) == (True, False)
    assert blue_and_orange([[0, 9], [9, 0]]) == (False, True)


def test_a_class_without_images_is_no_error(tmp_path: Path) -> None:
    confusion(tmp_path / "confusion.png", {"student": [[0, 0], [1, 4]]}, ["a", "b"])


def test_pyplot_is_not_imported(tmp_path: Path) -> None:
    curves(tmp_path / "curves.png", rows(("student",), epochs=2))
    assert "matplotlib.pyplot" not in sys.modules
