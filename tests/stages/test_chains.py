"""Assistants, generations and early stops: who teaches whom, what is shared, what is refused."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from kdrun.check import measure as first_step
from kdrun.cli import main
from kdrun.config.arguments import parse
from kdrun.config.compose import single
from kdrun.models.weights import read_weights
from kdrun.plan.plan import Plan, make_plan
from tests.stages.runs import SHORT

CHAIN = ("assistant=cnn_digits_medium", "generations=2", "threads=1")


def assembled(line: str = "") -> Plan:
    return make_plan(single(parse(shlex.split(line))).run)


def report(folder: Path) -> Any:
    return json.loads((folder / "report.json").read_text())


def rows(folder: Path) -> list[Any]:
    """Epochs without what differs between two trainings of the same bits."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [
        {key: row[key] for key in ("stage", "epoch", "lr", "loss", "validation") if key in row}
        for row in lines
    ]


Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    def called(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        return main(list(arguments)), *capsys.readouterr()

    return called


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Plan]:
    """The outputs of a chain of four, and the chain."""
    outputs = tmp_path_factory.mktemp("chain") / "outputs"
    overrides = [*SHORT, *CHAIN, f"outputs_dir={outputs}"]
    assert main(overrides) == 0
    return outputs, assembled(shlex.join(overrides))


def test_each_learns_from_the_one_before(ran: tuple[Path, Plan]) -> None:
    outputs, plan = ran
    assert [training.name for training in plan.chain] == ["teacher", "assistant", "generation1", "student"]
    for teacher, taught in pairwise(plan.chain):
        key = json.loads(taught.mark.read_text())["key"]
        assert key["teacher"] == {"key": teacher.fingerprint, "weights": "last"}
        assert taught.teachers == (teacher,)
    assert len(list(outputs.glob("*/*/last.safetensors"))) == 5


def test_the_report_has_all_of_them_and_says_who_taught_the_student(ran: tuple[Path, Plan]) -> None:
    assembly = ran[1]
    found = report(assembly.student.folder)
    assert list(found["models"]) == ["teacher", "assistant", "generation1", "student", "control"]
    assert found["models"]["assistant"]["name"] == "cnn_digits_medium"
    assert found["comparison"]["learned_from"] == "generation1"
    assert found["comparison"]["compression"] == pytest.approx(121994 / 994)
    stages = [row["stage"] for row in rows(assembly.student.folder)]
    assert stages == [role for role in found["models"] for _ in range(2)]
    page = (assembly.student.folder / "report.md").read_text()
    assert "| agreement with generation1 | % | - | - | - |" in page
    assert "| | unit | teacher | assistant | generation1 | student | control |".replace("| |", "|  |") in page


def test_the_screen_says_the_chain(
    ran: tuple[Path, Plan], call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    outputs = ran[0]
    code, out, _ = call(*SHORT, *CHAIN, f"outputs_dir={outputs}")
    assert code == 0 and "finished earlier" in out
    assert (
        "chain  teacher cnn_digits -> assistant cnn_digits_medium -> generation1 cnn_digits_small -> "
        "student cnn_digits_small\n"
    ) in out.replace("\n       ", " ")
    assert "\ntop-1 test: teacher " in out and "assistant" not in out.splitlines()[-20]
    monkeypatch.setattr(first_step, "SECONDS", 0.0)
    code, out, _ = call("check", *SHORT, *CHAIN, f"outputs_dir={outputs}", "seed=1")
    assert code == 0 and "generation1 is untrained" in out.replace("\n          ", " ")
    assert out.count("  train  ") == 4  # the teacher is there


def test_who_is_in_between_is_the_student_of_a_shorter_chain(ran: tuple[Path, Plan], call: Call) -> None:
    outputs, assembly = ran
    there = {path: path.stat().st_mtime_ns for path in outputs.glob("*/*/last.safetensors")}
    code, out, _ = call(*SHORT, "student=cnn_digits_medium", "threads=1", f"outputs_dir={outputs}")
    assert code == 0 and "student    cached" in out and "control    train" in out
    folder = assembly.named("assistant").folder
    assert set(report(folder)["models"]) == {"teacher", "student", "control"}
    assert {row["stage"] for row in rows(folder)} == {"teacher", "student", "control"}
    assert all(path.stat().st_mtime_ns == time for path, time in there.items())
    code, out, _ = call("outputs", str(outputs), "--format", "json")
    users = {Path(row["path"]).name: row.get("users") for row in json.loads(out)}
    assert assembly.student.folder.name in users[folder.name]
    assert len(users[assembly.student.folder.name]) == 0


def test_generations_are_shared_and_begin_elsewhere() -> None:
    one, two, three = (assembled(f"generations={count}") for count in (1, 2, 3))
    assert three.named("generation2").fingerprint == two.student.fingerprint
    assert three.named("generation1").folder == one.student.folder
    assert [training.name for training in three.chain] == ["teacher", "generation1", "generation2", "student"]
    first = [next(training.initial().model.parameters()) for training in three.chain[1:]]
    assert not torch.equal(first[0], first[1]) and not torch.equal(first[1], first[2])
    assert three.control is not None
    assert torch.equal(first[2], next(three.control.initial().model.parameters()))
    assert three.control.seed == three.student.seed
    same = assembled("assistant=cnn_digits_small")
    assert same.student.fingerprint == two.student.fingerprint


def test_an_assistant_leaves_the_control_as_it_is() -> None:
    plain, helped = assembled(), assembled("assistant=[cnn_digits_medium,mlp]")
    assert plain.control and helped.control and plain.control.fingerprint == helped.control.fingerprint
    assert plain.student.fingerprint != helped.student.fingerprint
    assert [training.name for training in helped.chain] == ["teacher", "assistant1", "assistant2", "student"]
    assert len(assembled("assistant=mlp alpha=0").chain) == 2  # nobody is asked
    recipes = [
        training.recipe for training in helped.chain[1:]
    ]  # the student's, with its numbers for each model
    assert [(recipe.epochs, recipe.lr) for recipe in recipes] == [(80, 3e-2), (15, 1e-3), (80, 3e-2)]


def test_ordinary_runs_keep_their_fingerprints() -> None:
    plain = assembled()
    assert plain.teacher.fingerprint == "97d9321d648a"
    assert plain.control is not None and plain.control.fingerprint == "d96a5e37dfa6"
    as_before = assembled("recipe.teacher.stop_at=40 generations=1 assistant=null")
    assert as_before.student.fingerprint == plain.student.fingerprint
    half, twenty = (assembled(f"recipe.teacher.stop_at={at}") for at in ("0.5", "20"))
    assert half.teacher.fingerprint == twenty.teacher.fingerprint != plain.teacher.fingerprint
    assert (half.teacher.epochs, half.student.epochs) == (20, 80)
    assert half.control is not None and half.control.fingerprint == plain.control.fingerprint


def test_a_stopped_teacher_is_what_the_whole_training_passes_through(tmp_path: Path) -> None:
    common = ("stages=[teacher]", "recipe.teacher.epochs=3", "threads=1", "teacher=cnn_digits_small")
    assert main([*common, f"outputs_dir={tmp_path}/whole"]) == 0
    assert main([*common, f"outputs_dir={tmp_path}/part", "recipe.teacher.stop_at=0.67"]) == 0
    (whole,), (part,) = (list(tmp_path.glob(f"{name}/models/*")) for name in ("whole", "part"))
    assert rows(part) == rows(whole)[:2]
    assert json.loads((part / "model.json").read_text())["epochs"] == 2
    assert rows(part)[1]["lr"] > 0.005  # far from the end of one cycle


def test_who_reads_by_anothers_classifier_may_teach(tmp_path: Path) -> None:
    line = (
        "teacher=resnet8 assistant=resnet8 student=resnet8 method=simkd dataset.train=64 dataset.labelled=1"
    )
    words = [
        *shlex.split(line),
        *SHORT,
        "recipe.teacher.epochs=1",
        "recipe.student.epochs=1",
        "control=false",
    ]
    assert main([*words, "threads=1", f"outputs_dir={tmp_path}"]) == 0
    assembly = assembled(shlex.join([*words, f"outputs_dir={tmp_path}"]))
    teacher = read_weights(assembly.teacher.folder / "last.safetensors")
    heads = [teacher["classifier.weight"]] if "classifier.weight" in teacher else [teacher["fc.weight"]]
    for taught in assembly.chain[1:]:
        heads.append(read_weights(taught.folder / "last.safetensors")["classifier.weight"])
    assert torch.equal(heads[0], heads[1]) and torch.equal(heads[0], heads[2])


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("assistant=resnet19", "assistant=resnet19: no such model. Nearest: resnet14, resnet18"),
        ("assistant=''", "assistant=: the name of a model is needed"),
        ("assistant=cnn_digits assistant.seed=3", "assistant.seed=3: is written with the assistant's name"),
        ("'assistant={name: mlp, width: 3}'", "assistant.width=3: no such key"),
        ("'assistant={name: mlp, args: {width: 3}}'", "assistant.args.width: mlp has no such argument"),
        ("'assistant={name: mlp, checkpoint: pyproject.toml}'", "assistant=mlp: an assistant is trained"),
        ("generations=0", "generations=0: must be 1 or more"),
        ("generations=2 student.checkpoint=pyproject.toml", "generations=2: and student.checkpoint exclude"),
        ("assistant=mlp stages=[evaluate]", "stages=[evaluate]: the student is not trained yet"),
        ("assistant=mlp stages=[student]", "stages=[student]: the teacher is not trained yet"),
        ("generations=2 method=simkd", "loss: the teacher's classifier must be one linear layer"),
        ("recipe.teacher.stop_at=41", "recipe.teacher.stop_at=41: must be an epoch from 1 to 40, a fraction"),
        ("recipe.student.stop_at=1.0", "recipe.student.stop_at=1.0: must be an epoch from 1 to 80, a frac"),
    ],
)
def test_mistakes_are_one_line(line: str, expected: str, call: Call, tmp_path: Path) -> None:
    code, _, err = call(*shlex.split(line), f"outputs_dir={tmp_path}")
    assert (code, err.count("\n")) == (2, 1) and err.startswith(expected), err
    assert not list(tmp_path.iterdir())
