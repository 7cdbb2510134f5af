"""The loop over a sweep's jobs, and what it leaves in the sweep's folder."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest

from kdrun.cli import main
from kdrun.commands.sweep import Ended, collected, line, perform, run_jobs
from kdrun.config.sweep import Job
from kdrun.errors import KdrunError
from kdrun.report.sweep_folder import new_folder, write_record
from tests.commands.short import SHORT
from tests.report.example import example

JOBS = [Job((f"seed={seed}",), {"seed": seed}) for seed in range(3)]


def done(folder: Path, work: Any, earlier: tuple[bool, ...] = (False, False, False)) -> list[Ended]:
    ended: list[Ended] = []
    run_jobs(JOBS, work, earlier, folder, ended)
    return ended


def run(folder: Path, name: str) -> Path:
    """A finished run beside a sweep's folder."""
    there = folder.parents[1] / "runs" / name
    there.mkdir(parents=True)
    (there / "report.json").write_text(json.dumps(example()))
    return there


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A new sweep's folder."""
    return new_folder(tmp_path / "outputs", JOBS, "kdrun -m seed=0,1,2")


def test_a_failed_job_is_said_at_once_and_the_next_runs(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def work(position: int) -> Path:
        if position == 1:
            raise KdrunError("loss.soft", None, "is not finite in epoch 3")
        return folder.parents[1] / "runs" / f"kd-{position}abcdef01234"

    ended = done(folder, work, (True, True, False))
    assert [(each["state"], each["earlier"]) for each in ended] == [
        ("finished", True), ("failed", False), ("finished", False),
    ]  # fmt: skip
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        " 1 of 3  seed=0  not evaluated  0abcde  finished earlier",
        " 3 of 3  seed=2  not evaluated  2abcde",
    ]
    assert err == " 2 of 3  seed=1  failed: loss.soft: is not finite in epoch 3\n"
    assert len(list((folder / "jobs").glob("*.error.txt"))) == 1
    done(folder, lambda position: folder.parents[1] / "runs" / f"kd-{position}abcdef01234")
    assert not list((folder / "jobs").glob("*.error.txt"))
    runs = [json.loads(path.read_text())["run"] for path in (folder / "jobs").glob("*.json")]
    assert sorted(runs) == [f"runs/kd-{position}abcdef01234" for position in range(3)]


def test_figures_have_a_line_of_their_own_if_there_is_no_room(folder: Path) -> None:
    ended = {"state": "finished", "run": str(run(folder, "kd-7f3a1c0d2244")), "earlier": True}
    head = " 4 of 9  temperature=2 alpha=0.5 "
    figures = "student 90.6  gain +3.8 (+1.9 to +5.7)  7f3a1c  finished earlier"
    assert line(head, ended, 120) == f"{head}  {figures}"
    assert line(head, ended, 80) == f"{head.rstrip()}\n   {figures}"


def test_what_was_not_evaluated_is_no_failure(folder: Path) -> None:
    done(folder, lambda position: folder.parents[1] / "runs" / f"kd-{position}abcdef01234")
    assert collected(folder) == []


def test_a_report_that_is_gone_is_a_failed_job(folder: Path) -> None:
    done(folder, lambda position: run(folder, f"kd-{position}abcdef01234"))
    shutil.rmtree(folder.parents[1] / "runs" / "kd-1abcdef01234")
    assert [bool(job["report"]) for job in collected(folder)] == [True, False, True]
    assert "cannot be read" in collected(folder)[1]["error"]


def test_one_job_is_a_line_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["-m", "seed=3", *SHORT]) == 0
    out = capsys.readouterr().out
    assert " 1 of 1  student " in out and "recipe" not in out and "top-1 test" not in out


def test_a_bug_in_a_job_leaves_its_traceback(tmp_path: Path) -> None:
    def broken() -> Path:
        raise TypeError("what is this")

    ended = perform(broken, tmp_path / "error.txt")
    assert ended["state"] == "failed"
    assert ended["error"].startswith("TypeError: what is this (a bug of kdrun: see ")
    assert "in broken" in (tmp_path / "error.txt").read_text()


def test_an_interrupt_ends_the_sweep_and_what_was_done_is_known(folder: Path) -> None:
    def work(position: int) -> Path:
        if position == 1:
            raise KeyboardInterrupt
        return folder.parents[1] / "runs" / "one"

    ended: list[Ended] = []
    with pytest.raises(KeyboardInterrupt):
        run_jobs(JOBS, work, (False, False, False), folder, ended)
    assert [each["state"] for each in ended] == ["finished"]
    assert len(list((folder / "jobs").glob("*.json"))) == 1


def test_records_of_earlier_versions_are_read_and_a_run_is_one_however_it_was_typed(tmp_path: Path) -> None:
    folder = new_folder(tmp_path / "moved", JOBS, "kdrun -m seed=0,1,2")
    for name, value in (("abc123", 2), ("older", 2.0), ("other", 4)):
        record = {
            "name": name if name == "abc123" else None,
            "overrides": [f"temperature={value}"],
            "swept": {"temperature": value},
            "error": None,
        }
        run = str(tmp_path / "outputs" / "runs" / f"kd-{value:g}")
        (folder / "jobs" / f"{name}.json").write_text(json.dumps(record | {"run": run}))
    jobs = collected(folder)
    assert [job["overrides"]["temperature"] for job in jobs] == [2, 4]
    assert [job["folder"] for job in jobs] == ["runs/kd-2", "runs/kd-4"]


def test_a_damaged_record_is_named_and_the_rest_is_shown(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_record(folder, JOBS[0], {"state": "failed", "run": None, "error": "x"})
    for name, text in (("cut", '{"na'), ("list", "[]"), ("other", '{"swept": 3}')):
        (folder / "jobs" / f"{name}.json").write_text(text)
    assert [job["overrides"] for job in collected(folder)] == [{"seed": 0}]
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3 and all(line.endswith("this job is not in the table") for line in lines)
    assert any("cut.json" in line for line in lines)


def test_calls_at_once_keep_records_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for process, jobs in ((1, JOBS[:1]), (2, JOBS[1:])):
        monkeypatch.setattr(os, "getpid", lambda process=process: process)
        folder = new_folder(tmp_path, jobs, f"kdrun {process}")
    calls = [json.loads(path.read_text()) for path in (folder / "calls").iterdir()]
    assert sorted((call["command"], len(call["jobs"])) for call in calls) == [("kdrun 1", 1), ("kdrun 2", 2)]


def test_two_sweeps_at_once_fill_one_folder(folder: Path) -> None:
    def call(job: Job) -> None:
        run_jobs([job], lambda position: run(folder, job.name), (False,), folder, [])

    threads = [threading.Thread(target=call, args=(job,)) for job in JOBS]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(job["overrides"]["seed"] for job in collected(folder)) == [0, 1, 2]


def test_a_sweep_is_typed_anew_moved_and_extended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["-m", "temperature=2,4", "outputs_dir=A", *SHORT]) == 0
    out = capsys.readouterr().out
    assert " 2 of 2  temperature=4  student " in out and "kdrun 0." not in out and "top-1 test" not in out
    shutil.move("A", "B")
    assert main(["-m", "temperature=2.0,3.0,4.0", "outputs_dir=B", *SHORT]) == 0
    out, err = capsys.readouterr()
    assert "3 jobs: 2 finished earlier, 1 run, 0 failed" in out and not err
    assert "one seed" in out and "+- " not in out
    (folder,) = Path("B/sweeps").iterdir()
    results = json.loads((folder / "results.json").read_text())
    assert [setting["values"] for setting in results] == [{"temperature": t} for t in (2, 3, 4)]
    shutil.move("B", "C")
    assert main(["report", f"C/sweeps/{folder.name}"]) == 0


def test_a_mistake_that_only_data_and_models_show_refuses_the_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A weight of 0 leaves nothing to learn: the same in every other number."""
    monkeypatch.chdir(tmp_path)
    assert main(["-m", "~loss.hard", "loss.soft.weight=1,0", *SHORT]) == 2
    err = capsys.readouterr().err
    assert "(1 of 2 jobs)" in err and err.endswith("nothing was trained\n")
    assert not list(tmp_path.iterdir())


def test_the_data_set_is_read_once_for_all_jobs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from kdrun.plan import ground

    monkeypatch.chdir(tmp_path)
    read: list[Any] = []
    load = ground.load
    monkeypatch.setattr(ground, "load", lambda *given: read.append(given) or load(*given))
    assert main(["-m", "seed=0,1", "temperature=2,4", *SHORT]) == 0
    assert len(read) == 1


def test_a_failed_training_is_not_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from kdrun.stages import make

    monkeypatch.chdir(tmp_path)
    tried: list[str] = []
    train = make.train

    def failing(trainings: Any, observers: Any) -> None:
        tried.extend(f"{training.name} {training.seed}" for training in trainings)
        if any(training.name == "student" and training.seed == 1 for training in trainings):
            raise KdrunError("loss.soft", None, "is not finite")
        train(trainings, observers)

    monkeypatch.setattr(make, "train", failing)
    assert main(["-m", "seed=0,1,2", *SHORT]) == 1
    out, err = capsys.readouterr()
    assert err == " 2 of 3  seed=1  failed: loss.soft: is not finite\n"
    assert tried.count("student 1") == 1 and "3 jobs: 0 finished earlier, 2 run, 1 failed" in out
