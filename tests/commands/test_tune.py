"""`kdrun tune` from nothing to the tested winner: trials, pruning, failures, repeats, kills, mistakes."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import pytest

from kdrun.extras import install
from kdrun.report.schema import parts
from tests.commands.short import Here, made
from tests.stages.runs import play

pytest.importorskip("optuna")

ALPHA = "alpha=interval(0,1)"
QUIET = (
    "evaluation.latency=false",
    "evaluation.plots=false",
    "evaluation.figures=[accuracy]",
    "recipe.teacher.epochs=1",
    "recipe.student.epochs=2",
)


def tune(here: Here, *more: str, name: str = "one", trials: int = 3) -> tuple[int, str, str]:
    return here("tune", *QUIET, *more, "--trials", str(trials), "--name", name)


def found(here: Here, name: str = "one", outputs: str = "outputs") -> dict[str, Any]:
    """results.json of a search."""
    content: dict[str, Any] = json.loads(
        (here.root / outputs / "searches" / name / "results.json").read_text()
    )
    return content


def told(content: dict[str, Any]) -> list[Any]:
    """What trials must have in common if a search was broken off or not."""
    return [[t["values"], t["state"], t["accuracy"], t["curve"], t["runs"]] for t in content["trials"]]


@pytest.fixture
def here(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Here:
    return made(tmp_path, capsys, monkeypatch, tmp_path)


def test_a_search_is_chosen_on_validation_and_only_the_best_is_tested(here: Here) -> None:
    code, out, err = tune(here, "temperature=interval(1,8)", "alpha=0.5,0.9", "seed=0,1")
    assert code == 0, err
    content = found(here)
    first, *_ = trials = content["trials"]
    assert first["values"] == {"temperature": 2.0, "alpha": "0.9"}  # those without a search
    assert all(len(trial["accuracy"]) == 2 == len(trial["runs"]) for trial in trials)
    chosen = content["chosen"]
    means = [sum(trial["accuracy"]) / 2 for trial in trials]
    assert means[chosen["trial"] - 1] == max(means) >= means[0]
    tested = [run.parent.name for run in here.root.glob("outputs/runs/*/report.json")]
    assert sorted(f"runs/{name}" for name in tested) == sorted(run["folder"] for run in chosen["runs"])
    for run, accuracy in zip(chosen["runs"], trials[chosen["trial"] - 1]["accuracy"], strict=True):
        report = json.loads((here.root / "outputs" / run["folder"] / "report.json").read_text())
        student = parts(report, "student")
        assert student["validation"]["top1"] == pytest.approx(accuracy)
        assert student["test"]["top1"] == run["test"]["student"]
    kinds = [path.name.split("-")[0] for path in here.root.glob("outputs/models/*")]
    assert sorted(kinds) == ["control", "control", "teacher"]  # shared, and the winner's alone

    assert "has " in out and "on test" in out and "3 trials: 3 complete" in out
    before = here.files()
    assert tune(here, "temperature=interval(1,8)", "alpha=0.5,0.9", "seed=0,1")[0] == 0
    trained = {path for path, time in here.files().items() if before.get(path) != time and "/runs/" in path}
    assert not [path for path in trained if path.endswith((".safetensors", "report.json", ".jsonl"))]
    assert told(found(here)) == told(content)
    code, shown, _ = here("report", "outputs/searches/one")
    assert code == 0 and "The setting chosen on validation" in shown
    assert "1 search " in here("outputs")[1]
    code, _, err = tune(here, "alpha=0.1,0.2")
    assert code == 2 and err.splitlines()[-1].startswith(
        "--name=one: is another search (of temperature, alpha)"
    )


def test_what_falls_behind_is_stopped_and_can_be_continued(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kdrun.search.proposal.STARTUP", 1)
    code, out, err = tune(here, "recipe.student.lr=0.03,0.000001", trials=5)
    assert code == 0 and "all 2 settings of the space are tried" in out, err
    good, slow = found(here)["trials"]
    assert (good["state"], slow["state"], slow["epochs"]) == ("complete", "pruned", 1)
    folder = here.root / "outputs" / slow["runs"][0]
    assert (folder / "state.pt").exists() and not (folder / "student.json").exists()
    assert "pruned after 1 epoch at" in out and not (folder / "report.json").exists()

    single = (*QUIET, "recipe.student.lr=0.000001", "control=false")
    code, out, _ = here(*single)
    assert code == 0 and re.search("student +resume", out)
    assert here(*single, "outputs_dir=straight")[0] == 0
    whole = here.root / "straight" / slow["runs"][0]
    assert (folder / "last.safetensors").read_bytes() == (whole / "last.safetensors").read_bytes()


def test_a_setting_that_fails_is_a_trial_and_if_none_works_the_search_ends(here: Here) -> None:
    code, out, err = tune(here, "recipe.student.lr=1e13,1e14,1e15", trials=5)
    assert code == 1 and "note: recipe.student.lr=0.03 is the value without a search" in err
    assert err.count("not finite by step") == 4 and "kdrun tune: the first 3 trials failed: " in err
    assert [trial["state"] for trial in found(here)["trials"]] == ["failed"] * 3
    assert "0 complete, 0 pruned, 3 failed" in out


@pytest.mark.long
def test_a_killed_search_ends_as_one_that_was_not(here: Here) -> None:
    words = ["tune", *QUIET, ALPHA, "--name", "one", "--trials", "2"]
    cut, whole = ([*words, f"outputs_dir={here.root / name}"] for name in ("cut", "whole"))
    plans: list[dict[str, Any]] = [
        {"args": cut, "bomb": ["write", "student.json", 1]},
        {"args": cut, "bomb": ["step", 15]},
        {"args": cut, "bomb": None},
        {"args": whole, "bomb": None},
    ]
    assert play(plans) == [-9, -9, 0, 0]
    assert told(found(here, outputs="cut")) == told(found(here, outputs="whole"))
    assert len(list(here.root.glob("cut/runs/*"))) == 2


def test_no_time_is_no_trial_and_the_same_command_continues(here: Here) -> None:
    code, out, _ = tune(here, ALPHA, "--minutes", "1e-6", trials=2)
    assert code == 1 and "time is up after 0 trials; the same command continues" in out
    assert tune(here, ALPHA, trials=1)[0] == 0 and len(found(here)["trials"]) == 1


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        ("temprature=interval(1,2)", "temprature=1: no such key. Nearest: temperature"),
        ("temperature=interval(0,16)", "temperature=interval(0,16): at 0: must be above 0"),
        ("alpha=interval(0,2)", "alpha=interval(0,2): at 2: must be between 0 and 1"),
        (
            "recipe.student.optimiser=interval(0,1)",
            "recipe.student.optimiser=interval(0,1): at 0: no such choice. Choices: sgd, adam, adamw",
        ),
        (
            "recipe.student.epochs=interval(10,40)",
            "recipe.student.epochs=interval(10,40): whole numbers are needed: "
            "recipe.student.epochs='int(interval(10,40))'",
        ),
        ("method=kd,nosuch", "method=kd,nosuch: at nosuch: no such method. Nearest: "),
        ("method=kd,at temperature=interval(1,4)", "temperature=2: no term of method at uses a temperature."),
        (
            "alpha=interval(0,1) dataset.validation=0",
            "dataset.validation=0: a search chooses on validation images, and there are none. "
            "To hold out training images: dataset.validation=500",
        ),
    ],
)
def test_what_cannot_be_searched_is_one_line_before_any_training(here: Here, typed: str, line: str) -> None:
    code, out, err = here("tune", *typed.split())
    assert code == 2 and not out
    assert err.removeprefix("checking the space\n").startswith(line) and err.count("\n") == 2
    assert not list(here.root.iterdir())


def test_without_optuna_there_is_a_line_that_installs_it(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "optuna" else real(name, *more)
    )
    code, _, err = here("tune", ALPHA)
    assert (code, err) == (2, f"kdrun tune: needs Optuna, which is not installed: {install('tune')}\n")


@pytest.mark.parametrize("words", [[ALPHA], ["-m", ALPHA], ["check", ALPHA]])
def test_an_interval_elsewhere_names_the_search(here: Here, words: list[str]) -> None:
    code, _, err = here(*words)
    assert code == 2 and err.count("\n") == 1 and "kdrun tune" in err


def test_help(here: Here) -> None:
    code, out, _ = here("tune", "--help")
    assert code == 0 and "kdrun tune temperature='interval(1,16)'" in out
    assert max(map(len, out.splitlines())) <= 80
    assert "\n  tune  " in here("--help")[1]
