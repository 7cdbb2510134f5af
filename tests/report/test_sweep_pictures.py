"""Which pictures a sweep ends with, and that names in them cover nothing."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from kdrun.report import sweeps
from kdrun.report.label_places import free_place
from kdrun.report.pareto_plot import pareto
from kdrun.report.plots import COLOURS
from kdrun.report.ranked_plot import accuracy_lines, gain_lines, ranked
from kdrun.report.sweep_plots import draw, fitting
from tests.report.example import failed, grid, job
from tests.report.pictures import coloured, pixels
from tests.report.test_tradeoff import FOUR

METHODS = [
    job({"method": m, "seed": s}, g + 0.1 * s, 86.0, s) for m, g in (("kd", 3), ("at", -2)) for s in range(3)
]


def test_what_was_swept_decides() -> None:
    def names(jobs: list[dict]) -> list[str]:  # type: ignore[type-arg]
        return [name for name, _ in fitting(jobs)]

    assert names(grid()) == ["heatmap.png"]
    assert names([job({"alpha": a}, 1.0) for a in (0.1, 0.9)]) == ["lines.png"]
    assert names(FOUR) == ["pareto.png"]
    assert names(METHODS) == ["ranked.png"]
    assert names([job({"method": m, "alpha": a}, 1.0) for m in ("kd", "at") for a in (1, 2)]) == [
        "ranked.png"
    ]
    assert names([job({"seed": s}, 1.0) for s in (0, 1)]) == []
    assert names([failed({"alpha": 1})]) == []


def test_pictures_of_a_smaller_sweep_go(tmp_path: Path) -> None:
    assert draw(tmp_path, METHODS) == ["ranked.png"]
    assert draw(tmp_path, FOUR) == ["pareto.png"]
    assert [path.name for path in tmp_path.iterdir()] == ["pareto.png"]


@pytest.mark.parametrize("count", [1, 4])
def test_pareto_shows_students_controls_and_teacher(tmp_path: Path, count: int) -> None:
    pareto(tmp_path / "p.png", FOUR[:count])
    image = pixels(tmp_path / "p.png")
    height, width = image.shape[:2]
    assert abs(height - 460) <= 1 and width == 1080, "versions of matplotlib round in other ways"
    assert all(coloured(image, COLOURS[role]) > 20 for role in ("teacher", "student", "control"))


def test_many_and_long_names_are_listed_beside_the_panels(tmp_path: Path) -> None:
    long = [
        {**one, "overrides": {"student": f"a_name_of_more_than_thirty_letters_{i}"}}
        for i, one in enumerate(FOUR)
    ]
    pareto(tmp_path / "p.png", long)
    assert pixels(tmp_path / "p.png").shape[1] > 1300


def test_a_list_is_ranked_and_coloured_by_the_verdict(tmp_path: Path) -> None:
    lines = list(gain_lines(sweeps.settings(METHODS)))
    assert [(line.name, line.verdict) for line in lines] == [("kd", "BEATS"), ("at", "LOSES")]
    ranked(tmp_path / "r.png", METHODS)
    image = pixels(tmp_path / "r.png")
    assert coloured(image, COLOURS["student"]) > 20 and coloured(image, COLOURS["control"]) > 20


def test_of_one_seed_the_interval_is_the_run_s(tmp_path: Path) -> None:
    (line,) = gain_lines(sweeps.settings([job({"method": "kd"}, 2.0)]))
    assert line.ends == (1.9, 5.7) and line.verdict is None


def test_without_controls_accuracies_are_ranked(tmp_path: Path) -> None:
    jobs = [job({"method": m}, 2.0) for m in ("kd", "at")]
    for one in jobs:
        del one["report"]["models"]["control"]
    assert [line.mean for line in accuracy_lines(sweeps.settings(jobs))] == [88.0, 88.0]
    ranked(tmp_path / "r.png", jobs)
    assert pixels(tmp_path / "r.png").std() > 5


def test_names_keep_apart() -> None:
    frame = (0.0, 0.0, 400.0, 400.0)
    points = [(200.0, 200.0), (205.0, 203.0), (210.0, 200.0), (395.0, 200.0)]
    taken = [(x - 6, y - 6, x + 6, y + 6) for x, y in points]
    for point in points:
        taken.append(free_place(point, (50.0, 11.0), taken, frame))
    for one, other in itertools.combinations(taken[4:], 2):
        assert one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]
    assert all(box[2] <= 400 for box in taken[4:])
