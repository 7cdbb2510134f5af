from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from kdrun.report.sweep_files import csv_text, markdown, records, tex, write
from tests.report.example import failed, grid, job


def test_the_files_of_a_grid(tmp_path: Path) -> None:
    assert write(tmp_path, grid()) == [
        "results.csv",
        "results.json",
        "results.md",
        "results.tex",
        "heatmap.png",
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        ["results.csv", "results.json", "results.md", "results.tex", "heatmap.png"]
    )


def test_a_plot_that_no_longer_fits_is_removed(tmp_path: Path) -> None:
    write(tmp_path, [one for one in grid() if one["overrides"]["alpha"] == 0.5])
    assert (tmp_path / "lines.png").exists()
    write(tmp_path, grid())
    assert not (tmp_path / "lines.png").exists()
    assert write(tmp_path, [failed({"temperature": t}) for t in (1, 2)]) == [
        "results.csv", "results.json", "results.md", "results.tex",
    ]  # fmt: skip


def test_records_carry_means_marks_and_runs() -> None:
    found = records(grid())
    best = next(record for record in found if record["mark"] == "best")
    assert best["values"] == {"temperature": 2, "alpha": 0.9}
    assert best["validation"]["gain"] == {"mean": pytest.approx(4.5), "std": pytest.approx(0.2), "n": 3}
    assert [run["overrides"]["seed"] for run in best["runs"]] == [0, 1, 2]
    assert best["runs"][0]["test"]["gain"] == pytest.approx(3.8)
    assert [record["mark"] for record in found].count("within the noise") == 2


def test_what_failed_is_told_and_has_no_figures() -> None:
    found = records(grid())[-1]
    assert (found["finished"], found["failed"]) == (0, 3)
    assert "validation" not in found and "test" not in found
    assert found["runs"][0]["error"] == "the loss is not finite" and "test" not in found["runs"][0]


def test_a_single_value_has_no_std() -> None:
    (record,) = records([job({"seed": 0}, 1.0)])
    assert record["test"]["gain"] == {"mean": pytest.approx(0.5), "n": 1}


def test_csv_and_json_agree_and_absent_cells_are_empty(tmp_path: Path) -> None:
    write(tmp_path, grid())
    lines = list(csv.DictReader((tmp_path / "results.csv").read_text().splitlines()))
    stored = json.loads((tmp_path / "results.json").read_text())
    assert len(lines) == len(stored) == 6
    assert float(lines[0]["validation_gain_mean"]) == stored[0]["validation"]["gain"]["mean"]
    assert (lines[0]["temperature"], lines[0]["alpha"], lines[0]["finished"]) == ("1", "0.5", "3")
    assert lines[-1]["validation_gain_mean"] == "" and lines[-1]["failed"] == "3"


def test_csv_of_jobs_without_control_has_empty_gains() -> None:
    jobs = [job({"temperature": t}, 1.0) for t in (1, 2)]
    for one in jobs:
        del one["report"]["models"]["control"]
    (line, _) = csv.DictReader(csv_text(jobs).splitlines())
    assert line["validation_gain_mean"] == "" and line["test_student_mean"] != ""


def test_markdown_shows_both_parts_and_the_notes() -> None:
    page = markdown(grid(), ["heatmap.png"])
    assert (
        "| * | 2 | 0.9 | 91.5 +- 1.2 | 87.0 +- 1.0 | +4.5 +- 0.2 | 90.5 +- 1.2 | 86.5 +- 1.0 | +4.0 +- 0.2 | "
        "3 |" in page
    )
    assert "- `*` best student on validation" in page
    assert "one teacher serves all seeds" in page
    assert "![heatmap](heatmap.png)" in page


def test_markdown_says_what_was_run_and_on_what(tmp_path: Path) -> None:
    (tmp_path / "calls").mkdir()
    (tmp_path / "calls" / "1.json").write_text(json.dumps({"command": "kdrun -m temperature=1,2"}))
    (tmp_path / "calls" / "2.json").write_text("broken")
    write(tmp_path, grid())
    page = (tmp_path / "results.md").read_text()
    assert "```\nkdrun -m temperature=1,2\n```\n" in page
    assert "cnn_digits -> cnn_digits_small on digits_few, 2026-01-02 03:04\n" in page


def test_tex_has_a_line_for_each_setting_and_marks_the_best() -> None:
    lines = tex(grid()).splitlines()
    (best,) = (line for line in lines if line.startswith("temperature 2, alpha 0.9"))
    assert "$+4.5_{\\pm 0.2}$" in best and "$\\mathbf{91.5}_{\\pm 1.2}$" in best
    assert sum(line.startswith("temperature") for line in lines) == 6
    (failed,) = (line for line in lines if line.startswith("temperature 4, alpha 0.9"))
    assert failed.count("--") == 6
