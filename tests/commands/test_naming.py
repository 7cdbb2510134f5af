"""Runs by id and name, kdrun continue, compare and outputs rm; no run is trained here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kdrun.cli import main
from kdrun.errors import KdrunError
from kdrun.report.comparison import keys, paired_test
from kdrun.report.naming import about, run_named, said_of, short_id
from tests.commands.short import Here


@pytest.fixture
def outputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("digits-a-aa3456789abc", "digits-b-aa9876543210", "digits-c-0123456789ab"):
        (tmp_path / "outputs" / "runs" / name).mkdir(parents=True)
    return tmp_path / "outputs"


def test_a_run_is_found(outputs: Path) -> None:
    assert run_named("0123").name == "digits-c-0123456789ab"
    assert run_named("AA34").name == "digits-a-aa3456789abc"
    assert run_named("digits-b-aa9876543210").name == "digits-b-aa9876543210"
    assert run_named("outputs") == Path("outputs")
    with pytest.raises(KdrunError, match="several runs begin so"):
        run_named("aa")
    with pytest.raises(KdrunError, match="no such run"):
        run_named("ff")
    assert short_id(run_named("0123")) == "012345"


def test_a_run_has_a_name_of_its_own(outputs: Path) -> None:
    first, second, _ = sorted((outputs / "runs").iterdir())
    about(first, "best", None, ["paper"])
    about(first, None, "with old labels", [])
    assert said_of(first) == {"name": "best", "note": "with old labels", "tags": ["paper"]}
    assert run_named("best").resolve() == first
    with pytest.raises(KdrunError, match="another run has this name"):
        about(second, "best", None, [])
    about(first, "worst", None, [])
    about(second, "best", None, [])
    (first / "about.json").write_text("{")
    assert said_of(first) == {}


def test_a_key_of_a_later_version_is_at_its_default() -> None:
    old: Any = {"config": {"seed": 0, "name": "a", "teacher": {"name": "x"}}}
    new: Any = {"config": {"seed": 1, "name": "b", "teacher": {"name": "x", "stem": "auto", "seed": 3}}}
    assert list(keys(old, new)) == [("seed", "0", "1"), ("teacher.seed", "null", "3")]


def keep(run: Path, labels: list[int], student: list[int]) -> None:
    np.savez(run / "answers.npz", **{"test/labels": np.array(labels), "test/student": np.array(student)})


def test_a_paired_test_needs_the_same_images(outputs: Path) -> None:
    one, two, _ = sorted((outputs / "runs").iterdir())
    assert paired_test(one, two) == {}
    labels = [0, 1] * 50 + [-1]
    keep(one, labels, [0] * 101)
    keep(two, labels, [0, 1] * 50 + [0])
    found = paired_test(one, two)
    assert (found["images"], found["only_first"], found["only_second"]) == (100, 0, 50)
    assert found["gain"] == 50.0 and found["verdict"] == "better" and found["interval"][0] > 39
    assert paired_test(two, one)["gain"] == -50.0 and paired_test(one, one)["gain"] == 0.0
    keep(two, labels[::-1], [0] * 101)
    assert paired_test(one, two) == {}


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        ("kdrun outputs . --prune --yes", "its folder names a command that makes no run: kdrun outputs"),
        ("kdrun export a --to onnx", "its folder names a command that makes no run: kdrun export"),
        ("rm -rf .", "does not name the command that made it"),
        ("kdrun 'seed=1", "does not name the command that made it"),
        ("", "does not name the command that made it"),
        (
            "kdrun packages=[evil] seed=1",
            "its command says which code runs, and that is not taken from a folder. If you trust it, type "
            "kdrun continue aa98 'packages=[evil]'",
        ),
        ("kdrun 'hydra.searchpath=[pkg://evil]'", "type kdrun continue aa98 'hydra.searchpath=[pkg://evil]'"),
        ("kdrun -m 'engine={name: slurm, setup: [ls]}'", "type kdrun continue aa98 'engine={name: slurm,"),
    ],
)
def test_a_folder_does_not_say_which_code_runs(
    outputs: Path, command: str, problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (run,) = outputs.glob("runs/digits-b-*")
    (run / "plan.json").write_text(json.dumps({"kdrun": "0.2.0", "command": command, "trainings": []}))
    assert main(["continue", "aa98"]) == 2
    err = capsys.readouterr().err
    assert problem in err and err.count("\n") == 1 and run.exists()


@pytest.mark.parametrize(
    ("word", "problem"),
    [
        (
            "engine.setup",
            "engine.setup has no value; for example 'engine.setup=['\"'\"'module load cuda'\"'\"']'",
        ),
        ("packages", "packages has no value; for example 'packages=[mine]'"),
        ("hydra.searchpath", "hydra.searchpath has no value; for example hydra.searchpath=VALUE"),
    ],
)
def test_a_word_that_continue_cannot_use_is_named(
    outputs: Path, word: str, problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["continue", "aa98", word]) == 2
    assert capsys.readouterr().err == f"kdrun continue: {problem}\n"


def test_for_other_keys_the_whole_command_is_given(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = "kdrun method=dkd 'note=two words' name=first seed=1 epochs=3"
    plan = {"kdrun": "0.2.0", "command": command, "trainings": []}
    (run_named("aa98") / "plan.json").write_text(json.dumps(plan))
    assert main(["continue", "aa98", "seed=3", "lr=0.1"]) == 2
    assert capsys.readouterr().err == (
        "kdrun continue: gives the command of the run again, without other keys; "
        "with them: kdrun method=dkd 'note=two words' epochs=3 seed=3 lr=0.1\n"
    )
    assert main(["continue", "nowhere", "seed=3"]) == 2
    assert "no such run" in capsys.readouterr().err


def test_an_empty_name_is_no_run(outputs: Path) -> None:
    with pytest.raises(KdrunError, match="no such run"):
        run_named("")


def test_a_run_is_shown_compared_continued_and_removed(
    here: Here, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = here.run()
    monkeypatch.chdir(here.root)
    (here.root / "again").symlink_to(run)
    id = short_id(run)
    capsys.readouterr()
    assert main(["compare", id, "again"]) == 0
    out = capsys.readouterr().out
    assert "no keys differ" in out and "no figures differ" in out
    assert main(["report", id]) == 0 and main(["continue", id]) == 0
    shown = capsys.readouterr()
    assert "finished earlier" in shown.out and shown.err.startswith("$ kdrun ")
    assert main(["outputs", "--format", "json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert id in [row.get("id") for row in rows] and all(row["date"].startswith("20") for row in rows)
    assert main(["outputs", "rm", id, "--yes"]) == 0
    assert not run.exists()
