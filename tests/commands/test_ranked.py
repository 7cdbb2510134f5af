"""Under torchrun: what is refused, by one line of one process, and the real thing once."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from kdrun.cli import main
from kdrun.commands.ranked import _refuse, _told_to_end, command
from kdrun.errors import KdrunError
from kdrun.records import PLAN
from tests.config.composed import composed

REFUSED = {
    "-m seed=0,1": "-m: a sweep has many runs, and torchrun is for one",
    "tune student.model=resnet8": "kdrun tune: runs in one process: without torchrun",
    "table digits": "kdrun table: runs in one process: without torchrun",
    "list models": "kdrun list: runs in one process: without torchrun",
    "--help": "torchrun: is for a single run",
    "run --version": "torchrun: is for a single run",
    "--nonsense": "--nonsense: no such flag",
}


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """As torchrun starts the first of two processes. Nothing listens at that place."""
    for name, value in {
        "RANK": "0",
        "LOCAL_RANK": "0",
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": "1",
    }.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


@pytest.mark.parametrize("words", REFUSED)
def test_what_is_not_a_single_run_is_refused_in_one_line(
    words: str, started: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words.split()) == 2
    out, err = capsys.readouterr()
    assert out == "" and len(err.splitlines()) == 1 and err.startswith(REFUSED[words])
    started.setenv("RANK", "1")
    assert main(words.split()) == 2
    assert capsys.readouterr() == ("", "")


def test_trainings_at_once_are_refused() -> None:
    run = composed("").run
    _refuse(run)
    for runtime, problem in (
        ({"jobs": 2}, r"^runtime.jobs=2: trainings at once need processes of their own"),
        ({"compile": True, "sync_bn": True}, r"^runtime.compile=True: the compiler cannot hold"),
    ):
        with pytest.raises(KdrunError, match=problem):
            _refuse(replace(run, runtime=replace(run.runtime, **runtime)))  # type: ignore[arg-type]
    with pytest.raises(KdrunError, match=r"^quantise=int8: ranges of activations follow the batches of one"):
        _refuse(replace(run, quantise="int8"))
    with pytest.raises(KdrunError, match=r"^engine=processes: torchrun is where this run is made"):
        _refuse(replace(run, engine={"name": "processes"}))


def test_the_command_to_repeat(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["seed=1"], 2, 2) == "torchrun --nproc-per-node=2 -m kdrun seed=1"
    assert command([], 16, 8) == "torchrun --nnodes=2 --nproc-per-node=8 -m kdrun"
    (tmp_path / PLAN).write_text(json.dumps({"kdrun": "0", "command": command([], 2, 2), "trainings": []}))
    assert main(["continue", str(tmp_path)]) == 2
    line = capsys.readouterr().err
    assert "several processes made it, which this command cannot start: torchrun --nproc-per-node=2" in line


def test_an_end_from_outside_is_one_line_too() -> None:
    with pytest.raises(KdrunError, match=r"^torchrun: this run was told to end: another process has") as told:
        _told_to_end(15, None)
    assert told.value.while_running


def test_one_process_of_torchrun_is_a_process_alone(
    started: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    started.setenv("WORLD_SIZE", "1")
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("kdrun ")


@pytest.mark.long  # tests/stages/test_ranks.py has two processes without torchrun
def test_torchrun_itself(tmp_path: Path) -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    words = ["quick=true", f"outputs_dir={tmp_path}", "evaluation.latency=false", "threads=1"]
    done = subprocess.run([*torchrun, "-m", "kdrun", *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "ranks  2 processes share each batch" in done.stdout
    assert done.stdout.count("A trial: everything ran.") == 1
    (report,) = tmp_path.glob("quick/runs/*/report.json")
    typed = json.loads(report.read_text())["command"]
    assert typed.startswith("torchrun --nproc-per-node=2 -m kdrun quick=true")
    failed = subprocess.run([*torchrun, "-m", "kdrun", "seed=x"], capture_output=True, text=True)
    assert failed.returncode == 1  # torchrun's own
    assert failed.stderr.count("seed=x: ") == 1
