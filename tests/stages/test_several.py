"""Several teachers, merged label sets, other classes: whole runs on small data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import kdrun.stages.train as training_room
from kdrun.cli import main
from kdrun.plan.plan import Plan, make_plan
from kdrun.report import answers
from kdrun.report.schema import parts
from kdrun.stages.pipeline import there
from kdrun.stages.subject import subject_of
from kdrun.training.step import Step
from tests.config.composed import composed
from tests.stages.runs import play

DATA = [
    "dataset=fake", "dataset.size=8", "dataset.classes=4", "dataset.per_class=60", "dataset.noise=0.1",
    "dataset.validation=40", "dataset.test=80", "dataset.views.name=crop_flip", "method=soft", "threads=1",
    "teacher=cnn_digits_small", "student=cnn_digits_small", "recipe=adam", "recipe.teacher.epochs=20",
    "recipe.student.epochs=2", "recipe.teacher.batch=8", "recipe.student.batch=32",
    "recipe.teacher.lr=1e-2", "recipe.student.lr=1e-2",
    "evaluation.latency=false", "evaluation.plots=false", "control=false",
]  # fmt: skip
FREE = [word for word in DATA if not word.startswith("teacher=")]
TWO = [
    *FREE,
    "teacher=[cnn_digits_small,{name: cnn_digits_small, seed: 5, weight: 3}]",
]
MERGED = [
    *FREE,
    "+teachers={one: {name: cnn_digits_small, classes: [class 0, class 1]}, "
    "two: {name: cnn_digits_small, classes: [class 2, class 3]}}",
]


def planned(words: list[str], folder: Path) -> Plan:
    return make_plan(composed(" ".join(f'"{word}"' for word in [*words, f"outputs_dir={folder}"])).run)


def ran(words: list[str], folder: Path) -> Plan:
    assert main([*words, f"outputs_dir={folder}"]) == 0
    return planned(words, folder)


def weights(plan: Plan) -> dict[str, torch.Tensor]:
    return load_file(plan.student.folder / "last.safetensors")


def report(plan: Plan) -> Any:
    return json.loads((plan.student.folder / "report.json").read_text())


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("several")


@pytest.fixture(scope="module")
def single(outputs: Path) -> Plan:
    return ran(DATA, outputs)


@pytest.fixture(scope="module")
def two(outputs: Path) -> Plan:
    return ran(TWO, outputs)


@pytest.fixture(scope="module")
def merged(outputs: Path) -> Plan:
    return ran(MERGED, outputs)


def test_each_teacher_and_all_together_stand_in_the_report(two: Plan) -> None:
    models = report(two)["models"]
    names = ["teacher", "teacher_cnn_digits_small", "teacher_cnn_digits_small_2", "student"]
    assert list(models) == names and models["teacher"]["source"] == "together"
    assert models["teacher"]["params"] == sum(models[name]["params"] for name in names[1:3])
    subject = subject_of(two, there(two, ()))
    logits = {name: subject.on_test(name).logits.softmax(1) for name in names[:3]}  # type: ignore[union-attr]
    mean = 0.25 * logits[names[1]] + 0.75 * logits[names[2]]
    torch.testing.assert_close(logits["teacher"], mean, rtol=1e-4, atol=1e-6)
    alone = planned(DATA, Path("elsewhere"))
    assert two.teachers[0].fingerprint == alone.teacher.fingerprint != two.teachers[1].fingerprint


def test_the_answers_of_all_are_kept_with_the_report(two: Plan) -> None:
    """Also if the run is evaluated again, with more figures."""
    for more in ([], ["evaluation.plots=true"]):
        assert main([*TWO, *more, f"outputs_dir={two.run.outputs_dir}"]) == 0
        kept = np.load(two.student.folder / answers.NAME)
        for name in ("teacher", "teacher_cnn_digits_small", "teacher_cnn_digits_small_2", "student"):
            right = 100 * (kept[f"test/{name}"] == kept["test/labels"]).mean()
            assert right == pytest.approx(parts(report(two), name)["test"]["top1"])


def test_answers_from_tables_are_those_of_live_teachers(two: Plan, tmp_path: Path) -> None:
    tables = [list((teacher.folder / "tables").glob("logits-*")) for teacher in two.teachers]
    assert [len(own) for own in tables] == [1, 1]
    mark = json.loads(two.student.mark.read_text())["teacher"]
    assert mark["plan"] == "tabled" and set(mark["teachers"]) == {"cnn_digits_small", "cnn_digits_small_2"}
    assert mark["forwards"] == sum(own["forwards"] for own in mark["teachers"].values()) > 0
    live = ran([*TWO, "runtime.table=off"], tmp_path)
    assert json.loads(live.student.mark.read_text())["teacher"]["plan"] == "live"
    assert same(weights(two), weights(live))


def test_a_term_that_names_a_teacher_learns_from_that_one_alone(outputs: Path, two: Plan) -> None:
    named = [
        "+loss@loss.other=hard_labels",
        "loss.soft.teacher=cnn_digits_small_2",
        "loss.other.weight=1e-30",
    ]
    both = ran([*TWO, *named, "loss.other.teacher=cnn_digits_small"], outputs)
    alone = ran([*DATA, "teacher.seed=5"], outputs)
    assert alone.teacher.folder == two.teachers[1].folder
    assert same(weights(both), weights(alone)) and not same(weights(both), weights(two))
    assert "teacher" not in report(both)["models"]


def test_a_merged_student_knows_all_classes_and_each_teacher_its_own(merged: Plan) -> None:
    found = report(merged)["models"]
    test = {name: (model.get("last") or model["val_best"])["test"] for name, model in found.items()}
    assert test["teacher_one"]["top1_of_one"] > 80 and test["teacher_one"]["top1_of_two"] == 0
    assert test["teacher_two"]["top1_of_two"] > 80 and test["teacher_two"]["top1_of_one"] == 0
    assert "nll" not in test["teacher_one"] and "nll" in test["student"]
    assert test["teacher"]["top1"] > test["teacher_one"]["top1"]
    assert test["student"]["across_blocks"] <= 100 - test["student"]["top1"] + 1e-9
    assert merged.student.built.model(torch.zeros(2, 3, 8, 8)).shape == (2, 4)
    assert [len(teacher.ground.data.train.labels) for teacher in merged.teachers] == [60, 60]


def test_an_assistant_learns_from_all_and_teaches_the_student(merged: Plan, outputs: Path) -> None:
    words = [*MERGED, "assistant={name: cnn_digits_small, seed: 8}"]
    chain = ran(words, outputs)
    found = report(chain)
    assert [t.folder for t in chain.teachers] == [t.folder for t in merged.teachers]
    names = ["teacher", "teacher_one", "teacher_two", "assistant", "student"]
    assert list(found["models"]) == names and found["comparison"]["learned_from"] == "assistant"
    before = report(merged)["models"]
    for name in names[:3]:
        assert parts(found, name) == parts({**found, "models": before}, name)  # type: ignore[arg-type]


def test_no_label_is_read_while_the_merged_student_learns(
    merged: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for teacher in merged.teachers:
        there_ = tmp_path / "models" / teacher.folder.name
        there_.parent.mkdir(exist_ok=True)
        there_.symlink_to(teacher.folder)

    def spoilt(learners: Any, teacher: Any, images: Any, labels: torch.Tensor, *more: Any) -> Step:
        return Step(learners, teacher, images, labels.flip(0) * 0 + 1, *more)

    monkeypatch.setattr(training_room, "Step", spoilt)
    other = ran(MERGED, tmp_path)
    assert same(weights(other), weights(merged))
    known = ran([*MERGED, "combine.weights=known", "stages=[student]"], tmp_path)
    monkeypatch.undo()
    right = ran([*MERGED, "combine.weights=known"], tmp_path / "right")
    assert not same(weights(known), weights(right))
    assert "teacher" not in report(right)["models"] and any(
        "known" in note for note in report(right)["notes"]
    )


def test_classes_in_another_order_make_the_same_run(merged: Plan, tmp_path: Path) -> None:
    other = planned([*MERGED, "teachers.two.classes=[class 3, class 2]"], merged.ground.run.outputs_dir)  # type: ignore[arg-type]
    assert other.student.fingerprint == merged.student.fingerprint


def test_a_loaded_teacher_with_its_classes_in_another_order_is_read_by_name(
    single: Plan, outputs: Path, tmp_path: Path
) -> None:
    """The outputs of a trained teacher are permuted, renamed and extended by a class that nobody knows."""
    tensors = load_file(single.teacher.folder / "last.safetensors")
    head = [name for name in tensors if len(tensors[name]) == 4][-2:]
    order = [2, 0, 3, 1]
    for name in head:
        extra = torch.full_like(tensors[name][:1], 0.01)
        tensors[name] = torch.cat([tensors[name][order], extra])
    file = tmp_path / "other.safetensors"
    save_file(tensors, file, {"classes": json.dumps(["c", "a", "class 3", "b", "horse"])})
    words = [*DATA, f"teacher.checkpoint={file}"]
    mapped = [*words, "teacher.class_map={a: class 0, b: class 1, c: class 2}"]
    plan = planned(mapped, outputs)
    assert plan.student.several is not None
    assert plan.student.several.asked[0].relation.targets == (2, 0, 3, 1, -1)
    found, plain = (
        each["models"]["teacher"]["last"] for each in (report(ran(mapped, outputs)), report(single))
    )
    assert found["test"]["top1"] >= plain["test"]["top1"] - 2 > 80


def test_a_mismatch_that_is_not_declared_names_the_classes(
    merged: Plan, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "low.safetensors"
    tensors = load_file(merged.teachers[0].folder / "last.safetensors")
    save_file(tensors, file, {"classes": json.dumps(["class 0", "class 1"])})
    words = [*DATA, f"teacher.checkpoint={file}", f"outputs_dir={tmp_path}"]
    capsys.readouterr()
    assert main(words) == 2
    error = capsys.readouterr().err
    assert "it does not know class 2, class 3" in error and "teacher.class_map={...}" in error
    assert main([*words, "teacher.classes=[class 0, class 1]", "stages=[student]"]) == 0


def test_another_normalisation_sees_the_same_view(single: Plan, tmp_path: Path) -> None:
    file = single.teacher.folder / "last.safetensors"
    words = [*DATA, f"teacher.checkpoint={file}", "dataset.mean=0.2", "dataset.std=0.8"]
    told = "teacher.normalisation={mean: 0.5, std: 0.25}"
    right = report(ran([*words, told], tmp_path))["models"]["teacher"]["last"]["test"]
    plain = report(single)["models"]["teacher"]["last"]["test"]
    assert right["nll"] == pytest.approx(plain["nll"], rel=1e-4)
    wrong = report(ran(words, tmp_path))["models"]["teacher"]["last"]["test"]
    assert abs(wrong["nll"] - plain["nll"]) > 0.01


@pytest.mark.parametrize(
    "bomb",
    [
        ["step", 30],
        pytest.param(["step", 10], marks=pytest.mark.long),
        pytest.param(["wrote", "model.json", 2], marks=pytest.mark.long),
    ],
)
def test_a_killed_merge_continues_to_the_same_bits(merged: Plan, tmp_path: Path, bomb: list[Any]) -> None:
    args = [*MERGED, "checkpoint.seconds=0", f"outputs_dir={tmp_path / 'o'}"]
    codes = play([{"args": args, "bomb": bomb}, {"args": args, "bomb": None}])
    assert codes == [-9, 0]
    assert same(weights(planned(MERGED, tmp_path / "o")), weights(merged))


def test_check_says_what_is_planned(merged: Plan, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["check", *MERGED, f"outputs_dir={merged.ground.run.outputs_dir}", "seed=3"]) == 0
    out = capsys.readouterr().out
    assert "one: knows class 0, class 1" in out and "teacher_two" in out and "untrained" not in out
