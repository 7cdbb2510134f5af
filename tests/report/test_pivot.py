from __future__ import annotations

import json
from pathlib import Path

import pytest

from kdrun.commands.report import main
from kdrun.errors import KdrunError
from kdrun.report.pivot import render
from tests.report.example import example


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Two methods: kd with gains 1 and 3, dkd with a gain of 4; and a run that was not finished."""
    for i, (method, gain) in enumerate((("kd", 1.0), ("kd", 3.0), ("dkd", 4.0))):
        report = example()
        report["distillation"]["method"] = method
        report["comparison"]["gain_top1"] = gain
        (tmp_path / str(i)).mkdir()
        (tmp_path / str(i) / "report.json").write_text(json.dumps(report))
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "plan.json").write_text("{}")
    return tmp_path


def test_cells_are_means_over_runs_of_all_folders(runs: Path) -> None:
    lines = render([runs / "0", runs / "1", runs / "2"], "method", "pair", "gain").splitlines()
    assert lines[2].split("  ")[0] == "method" and "cnn_digits -> cnn_digits_small" in lines[2]
    assert lines[3].split() == ["kd", "+2.0", "+-", "1.4", "(2)"]
    assert lines[4].split() == ["dkd", "+4.0", "(1)"]


def test_formats_carry_the_same(runs: Path) -> None:
    found = json.loads(render([runs], "method", "pair", "gain", "json"))
    assert [(one["method"], one["mean"], one["n"]) for one in found] == [("kd", 2.0, 2), ("dkd", 4.0, 1)]
    assert "| kd | +2.0 +- 1.4 (2) |" in render([runs], "method", "pair", "gain", "md")
    assert "kd & $+2.00_{\\pm 1.41}$" in render([runs], "method", "pair", "gain", "tex")
    assert render([runs], "method", "pair", "latency").count("0.0246") == 2


def test_what_no_run_has_is_named(runs: Path) -> None:
    with pytest.raises(KdrunError, match="--value"):
        render([runs], "method", "pair", "nonsense")
    with pytest.raises(KdrunError, match="--rows"):
        render([runs], "nonsense", "pair", "gain")


def test_unfinished_runs_are_counted_in_one_line(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(runs), str(runs / "begun"), "--value", "gain"]) == 0
    out, err = capsys.readouterr()
    assert err == "unfinished runs left out: 1\n" and "+4.0 (1)" in out
