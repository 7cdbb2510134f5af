"""`make`: each training once, teachers first; a failed one is told, and the others go on."""

from __future__ import annotations

import json
import multiprocessing.connection
import os
from collections.abc import Sequence
from io import StringIO
from pathlib import Path

import pytest
import torch
from rich.console import Console

from kdrun.errors import KdrunError
from kdrun.plan.plan import Plan, make_plan
from kdrun.plan.training import Training
from kdrun.progress.overall import Estimate, Logged
from kdrun.progress.screen import screen
from kdrun.progress.watchers import Observers
from kdrun.stages import groups as grouping
from kdrun.stages import make as module
from kdrun.stages.engines import processes
from kdrun.stages.engines.auto import Auto
from kdrun.stages.engines.engine import Audience, one_by_one
from kdrun.stages.engines.processes import Processes
from kdrun.stages.groups import seconds, spread
from kdrun.stages.make import make
from kdrun.stages.noted import GroupThreads, parts, write_notes
from kdrun.stages.pipeline import carry_out
from tests.config.composed import composed

SHORT = "recipe.teacher.epochs=1 recipe.student.epochs=1 evaluation.latency=false evaluation.plots=false"


@pytest.fixture
def observers() -> Observers:
    return Observers(screen(Console(file=StringIO())))


def plan(line: str, outputs: Path) -> Plan:
    return make_plan(composed(f"{SHORT} {line} outputs_dir={outputs}").run)


def names(group: Sequence[Training]) -> list[str]:
    return [f"{training.name} {training.seed}" for training in group]


def test_what_two_runs_share_is_made_once_and_before_what_needs_it(
    tmp_path: Path, observers: Observers, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    real = module.train
    monkeypatch.setattr(module, "train", lambda group, seen: (made.extend(names(group)), real(group, seen)))
    plans = [plan("seed=0", tmp_path), plan("seed=0 temperature=4", tmp_path), plan("seed=1", tmp_path)]
    first = make(plans, observers)
    assert made[0] == "teacher 0" and sorted(made[1:]) == [
        "control 0", "control 1", "student 0", "student 0", "student 1",
    ]  # fmt: skip
    assert len(first.trained) == 6 and not first.failures
    again = make(plans, observers)
    assert len(made) == 6 and not again.trained


def test_a_failed_training_is_told_to_its_run_and_not_tried_again(
    tmp_path: Path, observers: Observers, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []
    real = module.train

    def train(group: Sequence[Training], seen: Observers) -> None:
        tried.extend(names(group))
        if any(training.name == "student" and training.seed == 1 for training in group):
            raise KdrunError("loss.soft", None, "not finite")
        real(group, seen)

    monkeypatch.setattr(module, "train", train)
    plans = [plan("seed=0", tmp_path), plan("seed=1", tmp_path)]
    made = make(plans, observers)
    assert [str(error) for error in made.failures.values()] == ["loss.soft: not finite"]
    assert (carry_out(plans[0], "kdrun", observers.screen, made) / "report.json").exists()
    with pytest.raises(KdrunError, match=r"^loss\.soft: not finite$"):
        carry_out(plans[1], "kdrun", observers.screen, made)
    assert tried.count("student 1") == 1
    assert (plans[1].folder / "error.txt").read_text() == "loss.soft: not finite\n"
    with pytest.raises(KdrunError):  # a run by itself tries, and says so at once
        make(plans[1:], observers)
    assert tried.count("student 1") == 2


def test_a_group_that_fails_is_tried_one_by_one(tmp_path: Path, observers: Observers) -> None:
    good, bad = plan("seed=0", tmp_path).student, plan("seed=1", tmp_path).student
    done: list[Training] = []

    def work(group: list[Training], seen: Observers) -> None:
        if bad in group:
            raise ValueError("no")
        done.extend(group)

    failures = one_by_one([[good, bad]], work, observers)
    assert done == [good] and list(failures) == [bad.folder]


def dies(group: list[Training], observers: Observers) -> None:
    os._exit(9)


def fails(group: list[Training], observers: Observers) -> None:
    raise KdrunError("loss.soft", None, "not finite")


def test_a_process_that_dies_or_fails_is_one_failed_training(tmp_path: Path) -> None:
    student = plan("seed=0", tmp_path).student
    said: list[str] = []
    progress = Logged(said.append, {student.folder: 1.0})
    audience = Audience(
        Observers(screen(Console(file=StringIO()))), True, lambda: progress, lambda: Estimate({})
    )
    (error,) = Processes(2).train([GroupThreads([student])], 2, dies, audience).values()
    assert "ended before it was done (exit 9)" in str(error)
    assert len(said) == 1 and "1 of 1 trained" in said[0]
    (error,) = Processes(2).train([GroupThreads([student])], 2, fails, audience).values()
    assert str(error) == "loss.soft: not finite"


def test_there_are_no_more_processes_than_trainings_and_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "cores", lambda: 16)
    short, long = plan("", tmp_path), plan("recipe.student.epochs=100000", tmp_path)
    auto, three = Auto(None), Auto(3)
    assert auto.count([short.student]) == 1 and auto.count([long.student]) == 1
    assert auto.count([long.student, long.student]) == 2
    assert three.count([short.student] * 2) == 2 and three.count([short.student] * 8) == 3


def sees(group: list[Training], observers: Observers) -> None:
    """In a process: leaves the number of the GPU that it sees."""
    path = Path(group[0].ground.run.outputs_dir) / f"gpu {group[0].seed}"
    path.write_text(os.environ.get("CUDA_VISIBLE_DEVICES", "all"))


@pytest.mark.parametrize(
    ("device", "given", "seen"),
    [
        pytest.param("cuda", None, ["0", "1", "0"], marks=pytest.mark.long),
        ("cuda", "5,GPU-7", ["5", "GPU-7", "5"]),
        pytest.param("cuda:1", None, ["all"] * 3, marks=pytest.mark.long),
    ],
)
def test_processes_are_spread_over_gpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str, given: str | None, seen: list[str]
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if given is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    tmp_path.mkdir(exist_ok=True)
    students = [plan(f"seed={n} recipe.student.epochs={9 - n}", tmp_path).student for n in range(3)]
    place = students[0].ground.machine._replace(device=torch.device(device))
    for each in students:
        object.__setattr__(each.ground, "machine", place)
    monkeypatch.setattr(processes, "wait", _in_order)
    progress = Logged(lambda line: None, {each.folder: 1.0 for each in students})
    audience = Audience(
        Observers(screen(Console(file=StringIO()))), True, lambda: progress, lambda: Estimate({})
    )
    assert not Processes(2).train([GroupThreads([each]) for each in students], 2, sees, audience)
    assert [(tmp_path / f"gpu {n}").read_text() for n in range(3)] == seen
    assert os.environ.get("CUDA_VISIBLE_DEVICES") == given


def _in_order(sentinels: Sequence[int]) -> list[int]:
    """The first that was started, when it has ended."""
    return multiprocessing.connection.wait(sentinels[:1])  # type: ignore[return-value]


def test_auto_is_a_process_for_each_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    long = plan("recipe.student.epochs=100000", tmp_path).student
    for device, count in (("cuda", 2), ("cuda:1", 1)):
        place = long.ground.machine._replace(device=torch.device(device))
        object.__setattr__(long.ground, "machine", place)
        assert Auto(None).count([long] * 3) == count


def test_groups_are_cut_so_that_no_process_waits_for_another(tmp_path: Path) -> None:
    students = [plan(f"seed={seed}", tmp_path).student for seed in range(5)]
    parts = spread([students[:4], students[4:]], 2)
    assert sorted(map(len, parts)) == [1, 2, 2]
    assert seconds(parts[0]) >= seconds(parts[-1])


def test_what_is_left_of_a_sweep_forms_the_groups_that_were_written_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grouping, "STACKED", 2)
    monkeypatch.setattr(grouping, "WORTH_STACKING", 0.0)
    students = [plan(f"seed={seed}", tmp_path).student for seed in range(6)]

    def members(which: list[Training], processes: int = 1) -> list[tuple[list[int], int | None]]:
        def spreads(new: list[list[Training]]) -> list[list[Training]]:
            return new if processes == 1 else spread(new, processes)

        threads = None if processes == 1 else 3
        every = parts(which, spreads, lambda group: threads)
        return [([t.seed for t in part.group], part.threads) for part in every]

    assert members(students) == [([0, 1], None), ([2, 3], None), ([4, 5], None)]
    assert members(students[1:]) == [([1, 2], None), ([3, 4], None), ([5], None)]
    write_notes(parts(students[:4], list, lambda group: None))
    assert members(students[1:]) == [([1], None), ([2, 3], None), ([4, 5], None)]
    assert members(students[3:0:-1]) == [([2, 3], None), ([1], None)]
    write_notes(
        parts(students, lambda new: spread(new, 2), lambda group: 3)
    )  # who is written down stays there
    assert members(students[5:1:-1]) in (
        [([5], 3), ([4], 3), ([2, 3], None)],
        [([4], 3), ([5], 3), ([2, 3], None)],
        [([4, 5], 3), ([2, 3], None)],
    )
    again = [plan(f"seed={seed} fresh=true", tmp_path).student for seed in range(1, 4)]
    assert members(again) == [([1, 2], None), ([3], None)]


def test_command_configuration_and_folders_of_a_run_are_known_before_its_first_step(
    tmp_path: Path, observers: Observers, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(group: Sequence[Training], seen: Observers) -> None:
        raise KdrunError("stop", None, "here")

    monkeypatch.setattr(module, "train", stop)
    run = plan("assistant=mlp", tmp_path)
    with pytest.raises(KdrunError):
        carry_out(run, "kdrun assistant=mlp", observers.screen)
    content = json.loads((run.folder / "plan.json").read_text())
    assert content["command"] == "kdrun assistant=mlp"
    assert "\nassistant:\n- name: mlp\n" in (run.folder / "config.yaml").read_text()
    assert [each["name"] for each in content["trainings"]] == ["teacher", "assistant", "student", "control"]
    assert all((tmp_path / each["folder"]).parent.name in ("models", "runs") for each in content["trainings"])


def test_an_evaluation_without_a_student_is_refused_before_the_teacher_is_trained(
    tmp_path: Path, observers: Observers
) -> None:
    with pytest.raises(KdrunError, match=r"^stages=\[teacher,evaluate\]: the student is not trained yet"):
        carry_out(plan("stages=[teacher,evaluate]", tmp_path), "kdrun", observers.screen)
    assert not list(tmp_path.iterdir())
