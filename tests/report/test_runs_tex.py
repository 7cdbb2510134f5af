"""The list of runs for LaTeX, sorted, and cut to the latest."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kdrun.commands.report import main
from kdrun.errors import KdrunError
from kdrun.report.runs import render
from tests.report.example import example


def a_run(folder: Path, method: str, seed: int, top1: float, *, day: int = 1, **config: object) -> None:
    report = example()
    report["distillation"]["method"], report["seeds"]["run"] = method, seed
    report["models"]["student"]["last"]["test"]["top1"] = top1
    report["comparison"]["gain_top1"] = top1 - 86.8
    report["config"] = {"method": method, "seed": seed, **config}
    report["created"] = f"2026-01-{day:02d}T00:00:00+00:00"
    folder.mkdir()
    (folder / "report.json").write_text(json.dumps(report))


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """kd and dkd of three seeds each, dkd better by 2 points or so, and at of one seed."""
    for seed in range(3):
        a_run(tmp_path / f"kd{seed}", "kd", seed, 88.0 + 0.1 * seed, day=1 + seed, alpha=0.9)
        a_run(tmp_path / f"dkd{seed}", "dkd", seed, 90.0 + 0.2 * seed, day=11 + seed, alpha=0.9)
    a_run(tmp_path / "at", "at", 0, 85.0, day=9, alpha=0.9)
    return tmp_path


def test_means_over_seeds_with_the_best_marked(runs: Path) -> None:
    lines = render([runs], "tex").splitlines()
    assert "method & teacher & student & control & gain & n \\\\" in lines
    assert "\\multicolumn{6}{l}{\\emph{digits\\_few: cnn\\_digits $\\to$ cnn\\_digits\\_small}} \\\\" in lines
    assert (
        "kd & $92.4_{\\pm 0.0}$ & $88.1_{\\pm 0.1}$ & $86.8_{\\pm 0.0}$ & $+1.3_{\\pm 0.1}$ & 3 \\\\" in lines
    )
    assert any(line.startswith("dkd & ") and "$\\mathbf{90.2}_{\\pm 0.2}$" in line for line in lines)
    assert "at & $92.4$ & $85.0$ & $86.8$ & $-1.8$ & 1 \\\\" in lines
    assert sum(line.count("{") - line.count("}") for line in lines) == 0
    rows = [line for line in lines if line.endswith("\\\\") and "multicolumn" not in line]
    assert {line.count("&") for line in rows} == {5}


def test_settings_have_lines_of_their_own(runs: Path) -> None:
    a_run(runs / "more", "kd", 0, 87.0, alpha=0.5)
    text = render([runs], "tex")
    assert "kd, alpha 0.9 & " in text and "kd, alpha 0.5 & " in text


def order(runs: Path, **how: str) -> list[tuple[str, int]]:
    return [(run["method"], run["seed"]) for run in json.loads(render([runs], "json", **how))]


def test_sorted_by_a_figure_or_a_word(runs: Path) -> None:
    assert order(runs, sort="student")[:3] == [("dkd", 2), ("dkd", 1), ("dkd", 0)]
    assert order(runs, sort="gain_top1")[-1] == ("at", 0)
    assert [method for method, _ in order(runs, sort="method")][:4] == ["at", "dkd", "dkd", "dkd"]
    with pytest.raises(KdrunError, match=r"^--sort=nonsense: no run has it"):
        render([runs], sort="nonsense")


def test_what_lacks_the_figure_comes_last(runs: Path) -> None:
    report = json.loads((runs / "dkd2" / "report.json").read_text())
    del report["comparison"]["gain_top1"]
    (runs / "dkd2" / "report.json").write_text(json.dumps(report))
    assert order(runs, sort="gain")[-1] == ("dkd", 2)


def test_the_latest(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert set(order(runs, last="4")) == {("dkd", 0), ("dkd", 1), ("dkd", 2), ("at", 0)}
    assert main([str(runs), "--last", "2", "--sort", "student"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "90.4" in lines[-2] and "90.2" in lines[-1] and "method dkd" in lines[3]
    with pytest.raises(KdrunError, match=r"^--last=0: must be a whole number from 1"):
        render([runs], last="0")
    with pytest.raises(KdrunError, match=r"^--sort=gain: is for the list of runs"):
        main([str(runs), "--sort", "gain", "--rows", "method"])


def test_what_follows_from_the_pair_is_no_setting(tmp_path: Path) -> None:
    for i, name in enumerate(("mlp", "lightnn")):
        a_run(tmp_path / name, "kd", 0, 88.0, student={"name": name, "args": {"width": i}})
        path = tmp_path / name / "report.json"
        report = json.loads(path.read_text())
        report["models"]["student"]["name"] = name
        path.write_text(json.dumps(report))
    text = render([tmp_path], "tex")
    assert text.count("\nkd & ") == 2 and "width" not in text
