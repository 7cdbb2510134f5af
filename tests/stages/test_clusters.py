"""Sweeps on submitit's local executor, on a SLURM of shell scripts, and on a Ray cluster of this machine:
real processes, of which one is killed or preempted.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kdrun.cli import main
from kdrun.config.arguments import parse
from kdrun.config.compose import single
from kdrun.plan.plan import make_plan
from kdrun.records import read_rows
from kdrun.stages.engines import slurm
from tests.stages import fake_slurm

SWEEP = [
    *(
        "recipe.teacher.epochs=2",
        "recipe.student.epochs=30",
        "control=false",
        "device=cpu",
        "checkpoint.seconds=0",
    ),
    *("evaluation.latency=false", "evaluation.plots=false", "runtime.together=false"),
]
LOCAL = ["engine=slurm", "engine.executor=local", "runtime.jobs=3"]


def student(seed: int) -> Path:
    """The folder of a student of the sweep."""
    return make_plan(single(parse([*SWEEP, f"seed={seed}"])).run).student.folder


@contextmanager
def struck(folder: Path, how: signal.Signals) -> Iterator[list[int]]:
    """Sends a signal to the worker that trains this folder, once it has trained three epochs."""
    hit: list[int] = []
    over = threading.Event()

    def strike() -> None:
        while not hit and not over.wait(0.02):
            beat = folder / ".beat"
            if beat.exists() and len(read_rows(folder / "metrics.jsonl")) >= 3:
                number = beat.read_text().partition("process ")[2].split()
                process = int(number[0]) if number else worker_of(beat.read_text())
                os.kill(process, how)
                hit.append(process)

    thread = threading.Thread(target=strike)
    thread.start()
    try:
        yield hit
    finally:
        over.set()
        thread.join()


def worker_of(beat: str) -> int:
    """The process of `SLURM job 12 on here`: the script's only child, or the script itself after `exec`."""
    script = fake_slurm.state() / f"{beat.partition('SLURM job ')[2].split()[0]}.sh"
    process = fake_slurm.process_of(script)
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return int(children[0]) if children else process


def killed_and_repeated(engine: list[str], problem: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A sweep of which one worker is killed: one job fails, others go on, the same command completes it."""
    command = ["-m", "seed=0,1", *SWEEP, *engine]
    with struck(student(1), signal.SIGKILL) as hit:
        assert main(command) == 1
    shown = capsys.readouterr()
    assert hit and "2 jobs: 0 finished earlier, 1 run, 1 failed" in shown.out
    (line,) = [line for line in shown.err.splitlines() if "failed" in line]
    assert problem in line and "its last lines: " in line and "val" in line
    assert len(list(Path("outputs/models").glob("teacher-*"))) == 1
    assert [path.suffix for path in Path("outputs/engine").rglob("*.*")] in ([".out"], [".log"])
    teacher = next(Path("outputs/models").glob("teacher-*/model.json")).stat().st_mtime_ns
    assert main(command) == 0
    assert "2 jobs: 1 finished earlier, 1 run, 0 failed" in capsys.readouterr().out
    assert next(Path("outputs/models").glob("teacher-*/model.json")).stat().st_mtime_ns == teacher
    rows = [row["epoch"] for row in read_rows(student(1) / "metrics.jsonl") if row.get("stage") == "student"]
    assert rows == list(range(1, 31))


@pytest.mark.long
def test_a_killed_job_of_submitit_fails_alone_and_the_same_command_completes_the_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    killed_and_repeated(LOCAL, "ended before it was done (killed)", capsys)


@pytest.mark.long
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs Ray")
@pytest.mark.filterwarnings("ignore")
def test_a_killed_task_of_ray_fails_alone_and_the_same_command_completes_the_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    killed_and_repeated(["engine=ray"], "ended before it was done (WorkerCrashedError)", capsys)


@pytest.mark.long
def test_a_preempted_job_of_slurm_is_queued_again_and_continues(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    fake_slurm.install(tmp_path / "bin")
    (tmp_path / "jobs").mkdir()
    monkeypatch.setenv("FAKE_SLURM", str(tmp_path / "jobs"))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(slurm, "ASK", 0.3)
    keys = ["engine.partition=gpu", "engine.account=me", "engine.minutes=5", "engine.parameters={qos: high}"]
    began = time.monotonic()
    with struck(student(0), signal.SIGUSR2) as hit:
        assert main([*SWEEP, "engine=slurm", *keys]) == 0
    assert hit and time.monotonic() - began < 300
    scripts = [script.read_text() for script in (tmp_path / "jobs").glob("*.sh")]
    for line in ("--partition=gpu", "--account=me", "--time=5", "--qos=high", "--cpus-per-task=4"):
        assert all(f"#SBATCH {line}\n" in script for script in scripts), line
    assert not any("gpus" in script for script in scripts)  # device=cpu
    assert sorted(script.count("# process") for script in scripts) == [1, 2]
    rows = [row["epoch"] for row in read_rows(student(0) / "metrics.jsonl") if row.get("stage") == "student"]
    assert rows == list(range(1, 31)) and not (tmp_path / "outputs" / "engine").exists()
