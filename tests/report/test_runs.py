from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from kdrun.errors import KdrunError
from kdrun.report.find_runs import runs_in
from kdrun.report.read import read
from kdrun.report.run_records import differing, record
from kdrun.report.runs import render
from kdrun.report.sweep_files import write
from tests.report.example import example, grid


def run(folder: Path, **config: object) -> Path:
    report = example()
    report["config"] |= config
    folder.mkdir(parents=True)
    (folder / "report.json").write_text(json.dumps(report))
    return folder


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    """outputs/ with two finished runs, one unfinished, and a sweep that names the second."""
    jobs = [one for one in grid() if one["report"]][:2]
    run(tmp_path / "outputs" / "runs" / "a", alpha=0.5)
    run(tmp_path / "outputs" / "runs" / "b", alpha=0.9, threads=2, loss={"soft": {"weight": 0.5}})
    (tmp_path / "outputs" / "runs" / "unfinished").mkdir()
    sweep = tmp_path / "outputs" / "sweeps" / "s"
    sweep.mkdir(parents=True)
    jobs[0]["folder"], jobs[1]["folder"] = "outputs/runs/b", "outputs/runs/gone"
    write(sweep, jobs)
    return tmp_path / "outputs"


def differ(root: Path, names: str) -> tuple[str, ...]:
    """The keys that tell runs apart."""
    reports = [read(root / name) for name in names]
    values = differing([record(root, report) for report in reports], [report["config"] for report in reports])
    return tuple(values[0])


def test_runs_are_found_in_runs_sweeps_and_their_parents(outputs: Path) -> None:
    names = {str(folder): [path.name for path in runs_in(outputs / folder)] for folder in
             ("runs/a", "runs", "sweeps/s", "sweeps")}  # fmt: skip
    assert names == {"runs/a": ["a"], "runs": ["a", "b"], "sweeps/s": ["b"], "sweeps": ["b"]}
    assert {path.resolve().name for path in runs_in(outputs)} == {"a", "b"}


def test_each_run_is_listed_once(outputs: Path) -> None:
    assert len(json.loads(render([outputs, outputs / "sweeps" / "s", outputs / "runs"], "json"))) == 2


def test_text(outputs: Path) -> None:
    assert render([outputs / "runs"], "text", 80) == (
        "top-1 on test in %; gain over the control in points\n"
        "\n"
        "digits_few   cnn_digits -> cnn_digits_small   2 runs\n"
        "  method kd; seed 0; parameters 994\n"
        "  id  alpha  teacher  student  control  gain  95 % interval  verdict\n"
        "  -     0.5     92.4     90.6     86.8  +3.8   +1.9 to +5.7  better\n"
        "  -     0.9     92.4     90.6     86.8  +3.8   +1.9 to +5.7  better\n"
    )


def test_each_data_set_and_pair_has_a_block_with_ids_and_names(tmp_path: Path) -> None:
    first = run(tmp_path / "digits-kd-0123456789ab", alpha=0.5)
    run(tmp_path / "digits-kd-ba9876543210", alpha=0.9)
    other = json.loads((first / "report.json").read_text())
    other["dataset"] |= {"name": "mnist", "test": 500, "test_of": 10000}
    run(tmp_path / "mnist-kd-aaaaaaaaaaaa")
    (tmp_path / "mnist-kd-aaaaaaaaaaaa" / "report.json").write_text(json.dumps(other))
    (first / "about.json").write_text('{"name": "mine"}')
    lines = render([tmp_path], "text", 80).splitlines()
    assert [line for line in lines if "->" in line] == [
        "digits_few   cnn_digits -> cnn_digits_small   2 runs",
        "mnist (test 500 of 10,000)   cnn_digits -> cnn_digits_small   1 run",
    ]
    assert [line.split()[:2] for line in lines[4:7]] == [["id", "name"], ["012345", "mine"], ["ba9876", "-"]]


@pytest.mark.parametrize("width", [60, 80, 120])
def test_no_line_is_too_long(outputs: Path, width: int) -> None:
    for folder in (outputs / "runs", outputs / "runs" / "a"):
        assert all(len(line) <= width for line in render([folder], "text", width).splitlines())


def test_md_csv_and_json_carry_the_same_runs(outputs: Path) -> None:
    rows = list(csv.DictReader(render([outputs / "runs"], "csv").splitlines()))
    records = json.loads(render([outputs / "runs"], "json"))
    assert (
        [float(row["gain_low"]) for row in rows] == [record["gain_low"] for record in records] == [1.9, 1.9]
    )
    assert [row["alpha"] for row in rows] == ["0.5", "0.9"]
    table = render([outputs / "runs"], "md").splitlines()
    assert len(table) == 4 and "| kd | cnn_digits | cnn_digits_small | 0 | 0.5 | 994 | 92.4 |" in table[2]


def test_sums_of_floats_have_no_tail(tmp_path: Path) -> None:
    report = example()
    report["comparison"]["gain_top1"] = 1.1 + 2.2
    (tmp_path / "report.json").write_text(json.dumps(report))
    assert (
        ",3.3," in render([tmp_path], "csv") and json.loads(render([tmp_path], "json"))[0]["gain_top1"] == 3.3
    )


def test_keys_that_change_together_are_shown_once_and_technical_ones_not(outputs: Path) -> None:
    head = render([outputs / "runs"], "csv").splitlines()[0]
    assert "alpha" in head and "weight" not in head and "threads" not in head


def test_absent_figures_stay_absent(tmp_path: Path) -> None:
    report = example()
    del report["comparison"], report["models"]["control"]
    (tmp_path / "report.json").write_text(json.dumps(report))
    (record,) = json.loads(render([tmp_path], "json"))
    assert "gain_top1" not in record and "control_top1" not in record
    assert " - " in render([tmp_path], "md")


def test_folders_without_a_finished_run_are_named(tmp_path: Path, outputs: Path) -> None:
    with pytest.raises(KdrunError, match="unfinished: no finished run in it"):
        render([outputs / "runs" / "a", outputs / "runs" / "unfinished"])
    with pytest.raises(KdrunError, match="nowhere: no such folder"):
        render([tmp_path / "nowhere"])


def test_a_broken_report_is_named_and_hides_no_other(outputs: Path) -> None:
    bad = outputs / "runs" / "b"
    (bad / "report.json").write_text("{")
    said: list[str] = []
    assert [run["folder"] for run in json.loads(render([outputs], "json", warn=said.append))] == [
        str(outputs / "runs" / "a")
    ]
    assert len(said) == 1 and "left out: " in said[0] and "runs/b/report.json: not valid JSON" in said[0]
    with pytest.raises(KdrunError, match=r"runs/b/report\.json: not valid JSON"):
        render([bad])
    (outputs / "runs" / "a" / "report.json").write_text("[]")
    with pytest.raises(KdrunError, match=r"report\.json: no"):
        render([outputs])


def test_a_foreign_results_file_is_passed_over(outputs: Path) -> None:
    (outputs / "runs" / "unfinished" / "results.json").write_text('{"accuracy": 1}')
    assert {path.resolve().name for path in runs_in(outputs)} == {"a", "b"}


def test_formats_are_checked(outputs: Path) -> None:
    with pytest.raises(KdrunError, match="format=xml: no such format"):
        render([outputs], "xml")


def test_what_follows_from_a_name_has_no_column(tmp_path: Path) -> None:
    """Arguments of a model and terms of a method, unless they differ between runs of one name."""

    def add(name: str, method: str, student: str, wide: int, lr: float) -> None:
        folder = run(tmp_path / name, loss={"soft": {"name": method}}, student={"args": {"wide": wide}})
        report = json.loads((folder / "report.json").read_text())
        report["distillation"]["method"], report["models"]["student"]["name"] = method, student
        report["config"]["recipe"] = {"student": {"lr": lr}}
        (folder / "report.json").write_text(json.dumps(report))

    add("a", "kd", "small", 8, 0.1)
    add("b", "dkd", "small", 8, 0.1)
    add("c", "kd", "large", 16, 0.2)
    assert differ(tmp_path, "abc") == ()
    add("d", "kd", "small", 16, 0.1)
    assert differ(tmp_path, "abcd") == ("student.args.wide",)


def test_assistants_are_told_apart_by_name_then_by_what_else_differs(tmp_path: Path) -> None:
    for folder, dense in (("a", 8), ("b", 16)):
        run(tmp_path / folder, assistant=[{"name": "mlp", "args": {"dense": dense}}])
    assert differ(tmp_path, "ab") == ("assistant.0.args.dense",)
    run(tmp_path / "c", assistant=[])
    assert differ(tmp_path, "ac")[0] == "assistant"
    assert "[mlp]" in render([tmp_path])


def several(root: Path) -> Path:
    """Two settings: one of seeds 0 and 1, whose strongest controls differ, and one of seed 0."""
    for name, seed, alpha, control, gain in (
        ("a", 0, 0.5, "control", 1.0),
        ("b", 1, 0.5, "control_longer", 3.0),
        ("c", 0, 0.9, "control", 4.0),
    ):
        asked = ["plain", "longer"] if alpha == 0.5 else ["plain"]
        folder = run(root / name, alpha=alpha, seed=seed, control=asked)
        report = json.loads((folder / "report.json").read_text())
        report["seeds"]["run"] = seed
        report["comparison"] |= {"gain_top1": gain, "control": control}
        report["models"]["control_longer"] = report["models"]["control"]
        (folder / "report.json").write_text(json.dumps(report))
    return root


def test_means_over_seeds(tmp_path: Path) -> None:
    records = json.loads(render([several(tmp_path)], "json", seeds="mean", sort="gain"))
    assert [(run["alpha"], run["n"], run["gain_top1"]) for run in records] == [(0.9, 1, 4.0), (0.5, 2, 2.0)]
    assert records[1]["gain_top1_std"] == pytest.approx(2**0.5) and "gain_top1_std" not in records[0]
    page = render([tmp_path], "text", 100, seeds="mean")
    assert "+2.0 +- 1.4" in page and "+4.0\n" in page and "control_longer" not in page
    assert "gain_top1_std" in records[1] and "teacher_top1_std" not in records[1], "one teacher, no spread"


def test_equal_numbers_are_one_setting_and_settings_are_sorted(tmp_path: Path) -> None:
    for name, temperature, seed in (("a", 10, 0), ("b", 2, 0), ("c", 2.0, 1)):
        folder = run(tmp_path / name, temperature=temperature, seed=seed)
        report = json.loads((folder / "report.json").read_text())
        report["seeds"]["run"] = seed
        (folder / "report.json").write_text(json.dumps(report))
    means = json.loads(render([tmp_path], "json", seeds="mean"))
    assert [(mean["temperature"], mean["n"]) for mean in means] == [(2, 2), (10, 1)]


def test_a_key_of_a_term_that_repeats_the_runs_has_no_column(tmp_path: Path) -> None:
    for name, temperature, term in (("a", 1, "soft"), ("b", 4, "soft"), ("c", 4, "dkd")):
        loss = {term: {"temperature": temperature}} if term == "soft" else {term: {"beta": 8}}
        run(tmp_path / name, temperature=temperature, loss=loss)
    assert "loss.soft.temperature" not in differ(tmp_path, "abc")
    run(tmp_path / "d", temperature=4, loss={"soft": {"temperature": 2}})
    assert "loss.soft.temperature" in differ(tmp_path, "abcd")


def test_a_table_names_runs_as_commands_take_them(tmp_path: Path) -> None:
    first = run(tmp_path / "digits-kd-0123456789ab", alpha=0.5)
    run(tmp_path / "digits-kd-ba9876543210", alpha=0.9)
    (first / "about.json").write_text('{"name": "mine"}')
    rows = render([tmp_path], "md").splitlines()[2:]
    assert [row.split(" | ")[0] for row in rows] == ["| mine", "| ba9876"]
