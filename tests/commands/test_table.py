"""`kdrun table`: the list of all, a table of two cells from nothing to its page, killed and continued."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from kdrun.commands import sweep
from kdrun.commands.table import main as table_command
from kdrun.errors import KdrunError
from kdrun.report.schema import parts
from tests.commands.short import Here

OWN = """\
# Two cells on the digits | a test
# kdrun table two seed=0

title: Two cells
paper: {title: None, authors: Nobody, venue: nowhere, address: 'https://example.org'}
figure: accuracy
dataset: digits_few
convention: {epoch: last, sure: true, runs: 1, statistic: single, evidence: A test.}
seeds: [0]
run: [dataset=digits_few, dataset.headline=last, recipe.teacher.epochs=2, recipe.student.epochs=2]
pairs:
  cnn_digits-cnn_digits_small: {}
methods:
  kd: {run: [method=kd]}
  dist: {run: [method=dist], differences: [A difference of dist.]}
sources:
  here: {where: 'this test'}
published:
  - source: here
    cells:
      teacher: {cnn_digits-cnn_digits_small: 90.0}
      kd: {cnn_digits-cnn_digits_small: 80.0}
      dist: {cnn_digits-cnn_digits_small: 81.5}
"""

QUIET = ("evaluation.latency=false", "evaluation.plots=false")


@pytest.fixture
def table(here: Here) -> Here:
    """A folder with a table of the user's own in `mine/table/two.yaml`."""
    folder = here.root / "mine" / "table"
    folder.mkdir(parents=True)
    (folder / "two.yaml").write_text(OWN)
    return here


def call(here: Here, *more: str) -> tuple[int, str, str]:
    return here("table", "two", "--config-dir", "mine", *QUIET, *more)


def row(out: str, name: str) -> list[str]:
    """The words of a line of the page."""
    return next(line.split() for line in out.splitlines() if line.startswith(f"{name} "))


def test_a_table_from_nothing_to_its_page_and_again(table: Here) -> None:
    code, out, err = call(table, "--list")
    assert code == 0 and "0 of 4 trainings are done. The rest takes about " in out
    assert row(out, "kd")[:4] == ["kd", "0", "of", "1"]
    assert [path.name for path in table.root.glob("outputs/**/*") if path.is_file()] == ["paces.json"]

    code, out, err = call(table, "method=kd")
    assert code == 0, err
    assert row(out, "kd")[:2] == ["kd", "80.00"] and "\ndist " not in out
    folder = table.root / "outputs" / "tables" / "two"
    names = {"calls", "jobs", "table.md", "table.csv", "table.json", "table.tex"}
    assert {path.name for path in folder.iterdir()} >= names
    cells = {cell["method"]: cell for cell in json.loads((folder / "table.json").read_text())["cells"]}
    report = json.loads((table.runs()[0] / "report.json").read_text())
    assert cells["kd"]["ours"]["mean"] == parts(report, "student")["test"]["top1"]
    assert cells["student"]["ours"]["mean"] == parts(report, "control")["test"]["top1"]
    assert "ours" not in cells["dist"]

    code, out, err = call(table)
    assert code == 0 and "finished earlier" in out and "A difference of dist." in out
    assert len(list(table.root.glob("outputs/models/teacher-*"))) == 1
    assert len(list(table.root.glob("outputs/models/control-*"))) == 1
    page = out[out.index("Two cells (Nobody") :].rstrip("\n")
    assert table("report", str(folder))[:2] == (0, f"{page}\n")
    code, out, _ = call(table, "--format", "json", "method=kd")
    assert code == 0 and json.loads(out)["table"] == "two" and len(json.loads(out)["cells"]) == 3
    code, out, _ = table("report", str(folder), "--format", "json")
    assert code == 0 and json.loads(out) == json.loads((folder / "table.json").read_text())
    code, out, _ = table("report", str(folder), "--cols", "teacher", "--value", "student")
    assert code == 0 and [line.split()[0] for line in out.splitlines()[3:]] == ["dist", "kd"]
    code, out, err = call(table, "--list")
    assert "4 of 4 trainings are done; only evaluation may be left." in out


def test_a_reduced_table_says_so_and_is_kept_apart(table: Here) -> None:
    code, out, _ = call(table, "method=kd", "recipe.student.epochs=1")
    assert code == 0
    assert "reduced: student.epochs=1. This is not the published experiment" in " ".join(out.split())
    (folder,) = (table.root / "outputs" / "tables").iterdir()
    assert folder.name.startswith("two-")
    cells = json.loads((folder / "table.json").read_text())["cells"]
    (kd,) = [cell for cell in cells if cell["method"] == "kd"]
    assert kd["reduced"] == ["recipe.student.epochs=1"] and "difference" not in kd


def test_a_cell_is_found_by_report_and_an_ordinary_run_fills_a_cell(table: Here) -> None:
    keys = (
        "dataset=digits_few",
        "dataset.headline=last",
        "recipe.teacher.epochs=2",
        "recipe.student.epochs=2",
    )
    models = ("teacher=cnn_digits", "student=cnn_digits_small")
    assert table(*keys, *models, "method=dist", "seed=0", *QUIET)[0] == 0
    code, out, err = call(table, "method=dist")
    assert code == 0 and "finished earlier" in out, err
    code, out, _ = table("report", "outputs/runs")
    assert code == 0 and "dist" in out


KILLED = """
import os, signal, sys
from kdrun.training.step import Step
real, count = Step.__call__, [0]
def dying(self, rows):
    count[0] += 1
    if count[0] == int(sys.argv[1]):
        os.kill(os.getpid(), signal.SIGKILL)
    real(self, rows)
Step.__call__ = dying
from kdrun.cli import main
sys.exit(main(sys.argv[2:]))
"""


def test_a_table_that_is_killed_goes_on_and_ends_with_the_same_numbers(table: Here) -> None:
    command = ["table", "two", "--config-dir", "mine", *QUIET, "checkpoint.seconds=0"]
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, "9", *command], cwd=table.root, capture_output=True, timeout=120
    )
    assert killed.returncode == -9, killed.stderr
    assert table(*command)[0] == 0
    assert table(*command, "outputs_dir=other")[0] == 0
    texts = [
        (table.root / outputs / "tables" / "two" / "table.csv").read_text()
        for outputs in ("outputs", "other")
    ]
    assert texts[0] == texts[1] and ",80.0," in texts[0]


def test_a_failed_cell_is_said_and_the_others_are_shown(table: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    real = sweep.carried_out

    def failing(plan: object, own: str, made: object) -> Path:
        if "method=dist" in own:
            raise KdrunError("loss.dist", None, "is not finite in epoch 1")
        return real(plan, own, made)  # type: ignore[arg-type]

    monkeypatch.setattr(sweep, "carried_out", failing)
    code, out, err = call(table)
    assert code == 1 and "failed: loss.dist: is not finite in epoch 1" in err
    assert row(out, "kd")[:2] == ["kd", "80.00"]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["crd3"], "table=crd3: no such table. Nearest: "),
        (["crd1", "dkd"], "dkd: one table at a time; cells are chosen by pair=, method=, seed="),
        (["method=kd"], "method=kd: the name of a table is missing. Nearest: "),
        (["crd1", "--lst"], "--lst: no such flag. "),
        (["crd1", "--format", "html"], "--format=html: no such choice. "),
    ],
)
def test_mistakes(words: list[str], line: str) -> None:
    with pytest.raises(KdrunError) as raised:
        table_command(words)
    assert str(raised.value).startswith(line)


def test_a_wrong_key_is_one_line_before_any_training(table: Here) -> None:
    code, _, err = call(table, "temprature=4")
    assert code == 2 and err.endswith("\ntemprature=4: no such key. Nearest: temperature\n")
    assert not (table.root / "outputs").exists()


def test_the_list_of_all_tables(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kdrun.check.measure.training_speed", lambda: ("cpu", 1e12))
    code, out, _ = here("table")
    assert code == 0 and max(map(len, out.splitlines())) <= 80
    row = next(line for line in out.splitlines() if line.startswith("crd1 "))
    assert row.split()[1:4] == ["455", "45", "days"]  # 3.9e18 multiply-accumulates at 1e12 a second
    assert not here.files()
