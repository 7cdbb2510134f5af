"""Sweeps: all jobs are known and checked first, each leaves a record, repeated ones do what is missing."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from kdrun.config.arguments import parse
from kdrun.config.load import Loaded
from kdrun.config.sweep import Call, Job, Refused, folder_name, jobs, perform, run_jobs
from kdrun.errors import KdrunError
from tests.config import jobs as example


def swept(line: str, folder: Path, command: Any = example.run) -> Call:
    """Runs `kdrun -m LINE` with a command that trains nothing, into `folder`."""
    call = Call(parse(["-m", *shlex.split(line), f"outputs_dir={folder}"]), check=lambda loaded: None)
    run_jobs(call, command)
    return call


def states(call: Call) -> list[tuple[str, bool]]:
    return [(record["state"], record["earlier"]) for record in call.records()]


def test_all_combinations_in_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call = swept("temperature=1,2 alpha=0.5,0.9", tmp_path)
    assert [job.swept for job in call.jobs] == [
        {"temperature": t, "alpha": a} for t in (1, 2) for a in (0.5, 0.9)
    ]
    assert [json.loads((Path(r["run"]) / "report.json").read_text()) for r in call.records()] == [
        {"temperature": t, "alpha": a, "seed": 0} for t in (1, 2) for a in (0.5, 0.9)
    ]
    out = capsys.readouterr().out
    assert out.startswith("checking 4 jobs\n") and "job 3 of 4   temperature=2  alpha=0.5" in out


def test_a_repeated_and_extended_sweep_stays_in_its_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = swept("temperature=1,2", tmp_path)
    assert states(first) == [("finished", False)] * 2
    capsys.readouterr()
    second = swept("temperature=4,2,1", tmp_path)
    out = capsys.readouterr().out
    assert out == "checking 3 jobs\n\njob 1 of 3   temperature=4\n" + "".join(
        f"job {n} of 3   temperature={t}   finished earlier\n" for n, t in ((2, 2), (3, 1))
    )
    assert second.folder == first.folder
    assert states(second) == [("finished", False), ("finished", True), ("finished", True)]
    assert len(list((tmp_path / "sweeps").iterdir())) == 1
    assert first.folder and len(list((first.folder / "jobs").glob("*.json"))) == 3


def test_the_folder_is_named_by_what_is_swept_and_what_is_fixed() -> None:
    def name(*overrides: str) -> str:
        return folder_name(Job(overrides, {"temperature": 1, "recipe.student.lr": 2}))

    base = name("temperature=1", "alpha=0.5")
    assert base.startswith("temperature-lr-") and len(base) == len("temperature-lr-") + 6
    assert name("alpha=0.5", "recipe.student.lr=3", "temperature=8") == base
    assert name("temperature=1", "alpha=0.5", "fresh=true") == base
    assert name("temperature=1", "alpha=0.6") != base


def test_bad_jobs_refuse_the_whole_sweep(tmp_path: Path) -> None:
    with pytest.raises(Refused) as refused:
        swept("temperature=1,2 alpha=0.5,1.5", tmp_path)
    line = "alpha=1.5: must be between 0 and 1 (weight of the distillation term)   (2 of 4 jobs)"
    assert refused.value.lines == (line,)
    assert not list(tmp_path.iterdir())


def test_jobs_that_do_not_compose_refuse_the_whole_sweep(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"recipe=quik: no such recipe.*\(1 of 2 jobs\)"):
        swept("recipe=quick,quik", tmp_path)


def test_what_is_checked_beyond_composing_refuses_too(tmp_path: Path) -> None:
    def check(loaded: Loaded) -> None:
        raise KdrunError("loss.hint.student_layer", "stage:9", "no such layer")

    call = Call(parse(["-m", "seed=0,1", f"outputs_dir={tmp_path}"]), check)
    with pytest.raises(Refused, match=r"stage:9: no such layer   \(2 of 2 jobs\)"):
        run_jobs(call, example.run)


def test_a_bug_in_the_preparation_is_not_swallowed_by_hydra(tmp_path: Path) -> None:
    def check(loaded: Loaded) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_jobs(Call(parse(["-m", "seed=0,1", f"outputs_dir={tmp_path}"]), check), example.run)


def test_a_failed_job_is_said_at_once_and_the_next_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def failing(loaded: Loaded, quiet: bool) -> Path:
        if loaded.run.seed == 1:
            raise KdrunError("loss.soft", None, "is not finite in epoch 3")
        return example.run(loaded, quiet)

    call = swept("seed=0,1,2", tmp_path, failing)
    assert [state for state, _ in states(call)] == ["finished", "failed", "finished"]
    assert call.records()[1]["error"] == "loss.soft: is not finite in epoch 3"
    error = capsys.readouterr().err
    assert error == "job 2 of 3   seed=1   failed: loss.soft: is not finite in epoch 3\n"
    again = swept("seed=0,1,2", tmp_path)
    assert states(again) == [("finished", True), ("finished", False), ("finished", True)]
    assert again.folder and not list((again.folder / "jobs").glob("*.error.txt"))


def test_a_bug_in_a_job_leaves_its_traceback(tmp_path: Path) -> None:
    def broken(loaded: Loaded, quiet: bool) -> Path:
        raise TypeError("what is this")

    ended = perform(broken, Loaded(None, ()), True, tmp_path / "error.txt")  # type: ignore[arg-type]
    assert ended["state"] == "failed" and ended["error"].startswith(
        "TypeError: what is this (a bug of kdrun: see "
    )
    assert "in broken" in (tmp_path / "error.txt").read_text()


def test_an_interrupt_ends_the_sweep_and_what_was_done_is_known(tmp_path: Path) -> None:
    def interrupted(loaded: Loaded, quiet: bool) -> Path:
        if loaded.run.seed == 1:
            raise KeyboardInterrupt
        return example.run(loaded, quiet)

    call = Call(parse(["-m", "seed=0,1,2", f"outputs_dir={tmp_path}"]), check=lambda loaded: None)
    with pytest.raises(KeyboardInterrupt):
        run_jobs(call, interrupted)
    assert states(call) == [("finished", False)] and len(call.jobs) == 3


@pytest.mark.parametrize(
    ("line", "values"),
    [
        (["seed=range(0,3)"], [{"seed": 0}, {"seed": 1}, {"seed": 2}]),
        (["method=kd,dkd", "seed=3"], [{"method": "kd"}, {"method": "dkd"}]),
        (["alpha={from: 0, to: 1},0.5"], [{"alpha": {"from": 0, "to": 1}}, {"alpha": 0.5}]),
        (["+loss@loss.hint=fitnet,feature"], [{"loss@loss.hint": "fitnet"}, {"loss@loss.hint": "feature"}]),
        (["seed=7"], [{}]),
    ],
)
def test_what_can_be_swept(line: list[str], values: Sequence[dict[str, Any]]) -> None:
    config = OmegaConf.create({"hydra": {"overrides": {"task": line}, "sweeper": {"params": None}}})
    assert [job.swept for job in jobs(config)] == values


def test_an_interval_cannot_be_swept() -> None:
    config = OmegaConf.create({"hydra": {"overrides": {"task": ["seed=interval(0,1)"]}, "sweeper": {}}})
    with pytest.raises(KdrunError, match="only lists"):
        jobs(config)


def test_a_sweep_file_says_the_values_and_typed_ones_replace_them(tmp_path: Path) -> None:
    call = Call(
        parse(["sweep=temperature_alpha", "temperature=3", "seed=5,6", f"outputs_dir={tmp_path}"]), check=stop
    )
    with pytest.raises(Refused):
        run_jobs(call, example.run)
    assert [job.swept for job in call.jobs] == [
        {"alpha": a, "seed": s} for a in (0.1, 0.5, 0.9) for s in (5, 6)
    ]


def stop(loaded: Loaded) -> None:
    """A check that lets nothing run."""
    raise KdrunError("stop", None, "here")


def test_several_processes(tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    call = swept("seed=0,1,2 hydra/launcher=joblib hydra.launcher.n_jobs=2", tmp_path)
    assert states(call) == [("finished", False)] * 3
    assert {json.loads((Path(r["run"]) / "report.json").read_text())["seed"] for r in call.records()} == {
        0,
        1,
        2,
    }
