from __future__ import annotations

import json
from pathlib import Path
from typing import cast

import pytest

from kdrun.commands.report import main
from kdrun.errors import KdrunError
from kdrun.report.pivot import mixtures, render
from kdrun.report.schema import Report
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
    assert "kd & $+2.0_{\\pm 1.4}$" in render([runs], "method", "pair", "gain", "tex")
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


def a_run(folder: Path, method: str, dataset: str, gain: float, **config: object) -> None:
    report = example()
    report["distillation"]["method"], report["dataset"]["name"] = method, dataset
    report["comparison"]["gain_top1"] = gain
    report["config"] = {
        "method": method,
        "seed": 0,
        "alpha": 0.9,
        "loss": {"soft": {"weight": 0.9}},
        **config,
    }
    folder.mkdir()
    (folder / "report.json").write_text(json.dumps(report))


def test_a_cell_that_mixes_settings_is_called_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a_run(tmp_path / "0", "kd", "mnist", 1.0, seed=0)
    a_run(tmp_path / "1", "kd", "mnist", 2.0, seed=1)
    a_run(tmp_path / "2", "at", "mnist", 2.0, alpha=0.5, loss={"soft": {"weight": 0.5}}, outputs_dir="b")
    assert main([str(tmp_path), "--rows", "method", "--cols", "dataset"]) == 0
    assert capsys.readouterr().err == "", "seeds may differ, and cells from each other"
    a_run(tmp_path / "3", "kd", "mnist", 2.0, alpha=0.1, loss={"soft": {"weight": 0.1}})
    assert main([str(tmp_path), "--rows", "method", "--cols", "dataset"]) == 0
    assert capsys.readouterr().err == (
        "note: runs with different settings are in the cell of kd and mnist: they differ in alpha\n"
    )
    assert main([str(tmp_path), "--rows", "alpha", "--cols", "method"]) == 0
    assert capsys.readouterr().err == ""


def test_keys_that_differ_are_named_in_the_order_of_the_configuration() -> None:
    names = ["lr", "batch", "epochs", "alpha", "views", "momentum", "temperature"]
    configs = [{name: int(name == changed) for name in names} for changed in ("", *names)]
    reports = [cast(Report, {"config": config}) for config in configs]
    assert mixtures([("kd", "digits")] * len(reports), reports) == ([("kd", "digits")], names)


def test_headings_stand_above_the_first_row_if_others_are_folded(tmp_path: Path) -> None:
    for number, data in enumerate(("a_long_name of_pictures", "mnist")):
        a_run(tmp_path / str(number), "kd", data, 1.0)
    lines = render([tmp_path], "method", "dataset", "gain", width=34).splitlines()
    heads = [line.split() for line in lines[2:4]]
    assert heads == [["a_long_name"], ["method", "of_pictures", "mnist"]]


@pytest.mark.parametrize("format", ["text", "md"])
def test_over_data_sets_rows_are_ranked(tmp_path: Path, format: str) -> None:
    for d, name in enumerate(("mnist", "cifar10", "svhn")):
        for m, (method, gain) in enumerate((("kd", 2.0), ("at", 1.0), ("dkd", 3.0 if d else 0.0))):
            a_run(tmp_path / f"{d}{m}", method, name, gain)
    found = render([tmp_path], "method", "dataset", "gain", format)
    assert "mean rank" in found and "1.7 (1.0 to 2.0)" in found and "2.7 (2.0 to 3.0)" in found
    assert "over 3 columns (dataset)" in found and "(Friedman)" in found
    assert "rank" not in render([tmp_path], "method", "dataset", "params", format)
    assert "rank" not in render([tmp_path], "dataset", "method", "gain", format)


def test_in_latex_the_best_of_a_column_and_its_ties_are_marked(tmp_path: Path) -> None:
    for seed, gains in enumerate(([5.0, 4.0, 1.0], [6.0, 6.1, 1.1], [7.0, 6.5, 1.2])):
        for name, gain in zip(("best", "near", "far"), gains, strict=True):
            a_run(tmp_path / f"{name}{seed}", name, "digits", gain, seed=seed)
            path = tmp_path / f"{name}{seed}" / "report.json"
            report = json.loads(path.read_text())
            report["seeds"]["run"] = seed
            path.write_text(json.dumps(report))
    page = render([tmp_path], "method", "dataset", "gain", "tex")
    assert "\\mathbf{+6.0}_{" in page and "\\underline{+5.5}_{" in page and "far & $+1.1_" in page
    nll = render([tmp_path], "method", "dataset", "student_nll", "tex")
    assert "0.3" in nll and "mathbf" not in nll and "$\\pm$ 0 (3)" in nll
