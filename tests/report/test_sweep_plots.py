from __future__ import annotations

from pathlib import Path

import pytest

from kdrun.report.sweep_plots import heatmap, lines, numeric
from tests.report.example import failed, grid, job
from tests.report.pictures import pixels


def test_axes_are_numbers_only() -> None:
    assert numeric(grid()) == ("temperature", "alpha")
    assert numeric([job({"method": name}, 1.0) for name in ("kd", "at")]) == ()


def test_heatmap_frames_the_best_and_shows_failures(tmp_path: Path) -> None:
    heatmap(tmp_path / "all.png", grid())
    image = pixels(tmp_path / "all.png")
    assert image.shape[1] == 640 and image.std() > 10
    # Without a validation part nothing is framed: far fewer black pixels.
    bare = grid()
    for one in bare:
        for model in one["report"]["models"].values() if one["report"] else ():
            del model["last"]["validation"]
    heatmap(tmp_path / "bare.png", bare)
    black = [(pixels(tmp_path / name).max(2) < 30).sum() for name in ("all.png", "bare.png")]
    assert black[0] > 2 * black[1]


def test_heatmap_of_losses_is_drawn_in_another_colour(tmp_path: Path) -> None:
    def bluer(sign: int) -> bool:
        jobs = [job({"temperature": t, "alpha": a}, sign * (t + a)) for t in (1, 2) for a in (0.1, 0.9)]
        heatmap(tmp_path / "heatmap.png", jobs)
        image = pixels(tmp_path / "heatmap.png").astype(int)
        return bool(image[..., 2].sum() > image[..., 0].sum())

    assert bluer(1) and not bluer(-1)


def test_lines_of_one_number(tmp_path: Path) -> None:
    jobs = [job({"temperature": t, "seed": s}, 1.0 + s, 87.0, s) for t in (1, 2, 16) for s in (0, 1)]
    lines(tmp_path / "lines.png", [*jobs, failed({"temperature": 4, "seed": 0})])
    assert pixels(tmp_path / "lines.png").shape == (420, 640, 3)


def test_other_sweeps_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="exactly one"):
        lines(tmp_path / "lines.png", grid())
    with pytest.raises(ValueError, match="exactly two"):
        heatmap(tmp_path / "heatmap.png", [job({"method": "kd"}, 1.0)])
