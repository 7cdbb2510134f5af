"""A sweep's trainings, several at once: who may share a loop, and that each ends as it would alone."""

from __future__ import annotations

import json
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from kdrun.cli import main
from kdrun.config.arguments import parse
from kdrun.config.compose import single
from kdrun.models.weights import read_weights
from kdrun.plan.plan import make_plan
from kdrun.plan.training import Training
from kdrun.progress.screen import screen
from kdrun.progress.watchers import Observers
from kdrun.stages import groups as grouping
from kdrun.stages.engines.worker import Telling
from kdrun.stages.groups import groups
from kdrun.stages.make import make
from tests.stages.runs import play

SWEEP = [
    "-m",
    "seed=0,1",
    "alpha=0.5,0.9",
    "control=false",
    "stages=[teacher,student]",
    "recipe.teacher.epochs=2",
    "recipe.student.epochs=2",
    "checkpoint.seconds=0",
    "evaluation.latency=false",
    "evaluation.plots=false",
    "teacher=cnn_digits_small",
    "recipe.teacher.batch=100",
    "recipe.student.batch=100",
    "runtime.jobs=1",
]


def student(*overrides: str) -> Training:
    return make_plan(single(parse(overrides)).run).student


@pytest.mark.parametrize(
    ("one", "two", "together"),
    [
        (["seed=1"], ["temperature=4", "alpha=0.5"], True),
        (["seed=1", "recipe.labelled_share=0.5"], ["recipe.labelled_share=0.5"], True),
        (["seed=1", "recipe.labelled_share=0.5"], [], False),
        (["seed=1"], ["alpha=0"], False),  # has no term that asks the teacher, and sees other rows
        ([], ["student=mlp"], True),  # one teacher, asked live, for both
        (["seed=1"], ["student=mlp"], False),
        ([], ["recipe.student.lr=0.1"], False),
        (["seed=1", "runtime.together=false"], ["runtime.together=false"], False),
        (["method=crd", "seed=1"], ["method=crd"], False),  # keeps something for each image
    ],
)
def test_who_is_trained_in_one_loop(one: list[str], two: list[str], together: bool) -> None:
    one, two = [*one, "recipe.student.epochs=1000"], [*two, "recipe.student.epochs=1000"]
    assert len(groups([student(*one), student(*two)])) == (1 if together else 2)


def test_larger_students_share_a_teacher_that_is_asked_live() -> None:
    live = ["dataset=fake", "teacher=resnet14", "runtime.table=off"]
    same_rows = [student(*live, "student=resnet8"), student(*live, "student=wrn_16_1", "temperature=2")]
    assert [len(group) for group in groups(same_rows)] == [2]
    other_rows = student(*live, "student=resnet8", "seed=1")
    assert [len(group) for group in groups([*same_rows, other_rows])] == [2, 1]


GPU = [
    "dataset=fake",
    "dataset.views.name=crop_flip",
    "teacher=resnet14",
    "student=resnet8",
    "precision=fp32",
]


@pytest.mark.parametrize(
    ("more", "sizes"),
    [
        ([], [4, 2]),
        (["method=crd"], [1] * 6),  # draws random numbers, which one graph cannot do for several
        (["dropout"], [1] * 6),
        (["runtime.together=false"], [1] * 6),
    ],
)
def test_on_a_gpu_students_that_read_a_table_learn_beside_one_another(
    more: list[str], sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    students = [
        student(*GPU, *(line for line in more if "dropout" not in line), f"seed={n}") for n in range(6)
    ]
    if any("dropout" in line for line in more):
        for each in students:
            each.built.model.add_module("drop", torch.nn.Dropout(0.5))
    assert [len(group) for group in groups(students)] == [1] * 6
    place = students[0].ground.machine._replace(device=torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (8e10, 8e10))
    for each in students:
        object.__setattr__(each.ground, "machine", place)
    assert [len(group) for group in groups(students)] == sizes


def test_those_beside_one_another_end_as_each_would_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With one table of the teacher's answers, and each its own rows."""
    monkeypatch.chdir(tmp_path)
    few = ["dataset.views.name=none", "recipe.teacher.epochs=1", "recipe.student.epochs=1", "control=false"]
    monkeypatch.setattr(grouping, "stackable", lambda training: False)
    monkeypatch.setattr(grouping, "on_gpu", lambda training: True)
    weights = {}
    for folder, beside in (("together", 4), ("alone", 1)):
        plans = [make_plan(single(parse([*few, f"seed={n}", f"outputs_dir={folder}"])).run) for n in (0, 1)]
        monkeypatch.setattr(grouping, "BESIDE", beside)
        made = make(plans, Observers(screen(Console(quiet=True))))
        assert not made.failures
        marks = [json.loads(plan.student.mark.read_text()) for plan in plans]
        assert [len(mark["companions"]) for mark in marks] == [beside > 1] * 2
        weights[folder] = [read_weights(plan.student.folder / "last.safetensors") for plan in plans]
    for one, other in zip(weights["together"], weights["alone"], strict=True):
        assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def test_short_trainings_are_not_worth_it() -> None:
    assert (
        len(groups([student("recipe.student.epochs=2"), student("recipe.student.epochs=2", "seed=1")])) == 2
    )


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Path], list[int]]:
    """Outputs of a sweep whose trainings run together, of one where each is alone, of one that is killed."""
    root = tmp_path_factory.mktemp("sweeps")
    folders = {name: root / name for name in ("together", "alone", "killed")}
    bombs: list[Any] = [
        ["wrote", "state.next.pt", 2],  # two of four students' states are written, and none counts
        ["placed", 2],  # all are written, and two have their names
        ["wrote", "student.json", 2],  # two are finished
        ["write", "last.safetensors", 1],
        None,
    ]
    args = {name: [*SWEEP, f"outputs_dir={folder}"] for name, folder in folders.items()}
    plan = [{"args": args["together"], "bomb": None}]
    plan += [{"args": [*args["alone"], "runtime.together=false"], "bomb": None}]
    plan += [{"args": args["killed"], "bomb": bomb} for bomb in bombs]
    return folders, play(plan)


def test_each_ends_as_it_would_alone_and_names_its_companions(swept: Any) -> None:
    folders, statuses = swept
    assert statuses == [0, 0, -9, -9, -9, -9, 0]
    for name, companions in (("together", {3}), ("alone", {0})):
        marks = sorted(folders[name].glob("runs/*/student.json"))
        assert len(marks) == 4
        assert {len(json.loads(mark.read_text())["companions"]) for mark in marks} == companions
    for mark in folders["together"].glob("*/*/last.safetensors"):
        for other in ("alone", "killed"):
            weights = read_weights(folders[other] / mark.relative_to(folders["together"]))
            for layer, value in read_weights(mark).items():
                assert torch.allclose(value, weights[layer], atol=2e-3), (other, mark, layer)
                assert other == "alone" or torch.equal(value, weights[layer]), (mark, layer)


def test_nothing_of_a_group_is_left(swept: Any) -> None:
    for folder in swept[0].values():
        assert not [*folder.rglob("group.json"), *folder.rglob("state*.pt")]


def test_a_killed_sweep_has_every_epoch_once(swept: Any) -> None:
    folders, _ = swept
    for metrics in folders["killed"].glob("runs/*/student.json"):
        rows = [json.loads(line) for line in (metrics.parent / "metrics.jsonl").read_text().splitlines()]
        assert [row["epoch"] for row in rows] == [1, 2]


def test_processes_train_what_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    sweep = [*SWEEP[3:-1], "runtime.jobs=2"]
    assert main(["-m", "student=cnn_digits_small,lightnn", "seed=0", *sweep]) == 0
    out = capsys.readouterr().out
    assert "3 of 3 trained" in out  # with the teacher
    assert " 1 of 2  student=cnn_digits_small  " in out and " 2 of 2  student=lightnn " in out


def test_a_process_reports_its_end_and_not_every_step() -> None:
    receive, send = Pipe(duplex=False)
    tell = Telling(send.send)
    for training in range(2):
        tell("begin", 10, 100, 0)
        for epoch in range(1, 11):
            for step in range(1, 101):
                tell("step", 100 * (epoch - 1) + step)
            tell("epoch", f"val {training}{epoch}")
    sent = []
    while receive.poll():
        sent.append(receive.recv())
    assert len(sent) < 40
    assert [each for each in sent if each[0] == "begin"] == [("begin", 10, 100, 0)] * 2
    assert sent[-2:] == [("step", 1000), ("epoch", "val 110")] and ("epoch", "val 010") in sent


def test_students_that_read_other_layers_of_their_teachers_do_not_share_them() -> None:
    teachers = ["resnet14", "resnet14_2"]
    line = ["dataset=fake", "runtime.table=off", "method=soft", "+loss@loss.pkt=pkt"]
    line += ["teacher=[resnet14,{name: resnet14, seed: 3}]"]

    def reading(soft: str, pkt: str, model: str) -> Training:
        return student(*line, f"loss.soft.teacher={soft}", f"loss.pkt.teacher={pkt}", f"student={model}")

    first = reading(*teachers, "resnet8")
    assert [len(group) for group in groups([first, reading(*teachers, "wrn_16_1")])] == [2]
    assert [len(group) for group in groups([first, reading(*teachers[::-1], "wrn_16_1")])] == [1, 1]
