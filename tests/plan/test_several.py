"""What each of several teachers knows, and which terms have a meaning with them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from kdrun.errors import KdrunError
from kdrun.plan.plan import Plan, make_plan
from tests.config.composed import composed

TWO = "'teacher=[cnn_digits,cnn_digits_medium]'"
HALVES = "experiment=merge_digits"


def plan(line: str) -> Plan:
    return make_plan(composed(line).run)


def test_what_changes_a_student_is_in_its_key() -> None:
    base = plan(TWO)
    lines = ["combine.by=mean_logits", "combine.weights=entropy", "loss.soft.teacher=cnn_digits"]
    assert base.student.key["teachers"] == [
        {"key": teacher.fingerprint, "weights": "last"} for teacher in base.teachers
    ]
    for line in lines[:2]:
        assert plan(f"{TWO} {line}").student.fingerprint != base.student.fingerprint
    other = plan("'teacher=[cnn_digits,{name: cnn_digits_medium, weight: 2}]'")
    assert other.student.fingerprint != base.student.fingerprint
    assert [t.fingerprint for t in other.teachers] == [t.fingerprint for t in base.teachers]


def test_teachers_of_the_same_model_differ_and_the_first_is_that_of_a_plain_run() -> None:
    two, plain = plan("'teacher=[cnn_digits,cnn_digits]'"), plan("")
    assert two.teachers[0].folder == plain.teacher.folder != two.teachers[1].folder
    assert two.rounds[0] == two.teachers and two.teacher is two.teachers[0]
    assert two.control is not None and plain.control is not None
    assert two.control.fingerprint == plain.control.fingerprint


def test_a_teacher_learns_from_the_labelled_images_of_its_classes_only() -> None:
    halves = plan(f"{HALVES} dataset=digits_few")
    whole = halves.ground.data.train.labels
    for teacher, classes in zip(halves.teachers, (range(5), range(5, 10)), strict=True):
        data = teacher.ground.data
        assert data.classes == tuple(map(str, classes))
        assert len(data.train.labels) == sum(int((whole == number).sum()) for number in classes) == 30
        rows = torch.nonzero(torch.isin(whole, torch.tensor(list(classes)))).flatten()
        assert torch.equal(data.train.images, halves.ground.data.train.images[rows])
        assert torch.equal(data.train.labels + classes[0], whole[rows])
        assert teacher.built.model(torch.zeros(2, 1, 8, 8)).shape == (2, 5)
    assert halves.student.built.model(torch.zeros(2, 1, 8, 8)).shape == (2, 10)
    assert len(halves.student.rows) == len(whole)


def test_overlapping_sets_and_classes_that_nobody_knows() -> None:
    line = f"{HALVES} 'teachers.low.classes=[0,1,2,3]' 'teachers.high.classes=[3,4,5]'"
    several = plan(line).student.several
    assert several is not None and several.how is not None
    assert several.blocks == {"low": (0, 1, 2, 3), "high": (3, 4, 5)}
    assert several.how.weights == "most_confident"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (f"{TWO} method=fitnet", "loss.hint.teacher: this term reads layers of one teacher: name it"),
        (f"{TWO} loss.soft.teacher=x", "loss.soft.teacher=x: no such teacher. Choices: cnn_digits, cnn_dig"),
        (f"{TWO} generations=2 loss.soft.teacher=mlp", "loss.soft.teacher=mlp: with assistants or generat"),
        (f"{TWO} assistant=mlp method=fitnet", "loss.hint: reads layers of one teacher, and with assistants"),
        (f"{TWO} loss.hard.teacher=cnn_digits", "loss.hard.teacher=cnn_digits: this term reads no teacher"),
        ("loss.soft.teacher=cnn_digits", "loss.soft.teacher=cnn_digits: there is one teacher; leave it out"),
        (f"{TWO} loss.soft.teacher=cnn_digits", "teachers.cnn_digits_medium: no term reads it; leave it out"),
        (f"{TWO} combine.weights=known", "combine.weights=known: all teachers know the same classes"),
        (f"{HALVES} combine.weights=fixed", "combine.weights=fixed: the teachers know different classes"),
        (f"{HALVES} combine.by=mean_logits", "combine.by=mean_logits: logits of models with different"),
        (f"{HALVES} teachers.low.classes=[0,1,x]", "teachers.low.classes=x: the data set has no such class"),
        (
            f"{HALVES} method=kd_std",
            "loss.soft: compares all logits, and low and high do not know all classes",
        ),
        (f"{HALVES} method=logits_mse", "compares all logits"),
        (f"{HALVES} method=dkd", "compares all logits"),
        (f"{HALVES} method=nkd", "compares all logits"),
        (f"{HALVES} method=dist", "compares all logits"),
        (f"{HALVES} method=mlkd", "compares all logits"),
        (f"{HALVES} method=rkd", "this term reads layers of one teacher"),
        (
            f"{TWO} method=dkd combine.weights=entropy combine.least=0.5",
            "combine.least leaves images without",
        ),
        (
            "teacher.classes=[0,1,2] method=cat_kd",
            "compares all|reads the classifier of teacher, which has other",
        ),
        ("teacher.classes=[0,1,2] method=wsld", "teacher does not know all classes"),
    ],
)
def test_what_has_no_meaning_is_refused_when_it_is_built(line: str, message: str) -> None:
    with pytest.raises(KdrunError, match=message) as caught:
        plan(line)
    assert "\n" not in str(caught.value)


def test_all_teachers_teach_the_first_of_a_chain() -> None:
    for line in (f"{TWO} assistant=mlp", f"{TWO} generations=2"):
        chain = plan(line)
        *heads, between, student = chain.chain
        assert between.teachers == tuple(heads) == chain.teachers and between.several is not None
        assert student.teachers == (between,) and student.several is None
        assert chain.taught_first is between and chain.rounds[1] == (between,)
    direct = plan(TWO)
    assert between.fingerprint == direct.student.fingerprint


def test_a_class_map_in_a_file(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    weights = plan("teacher.classes=[0,1,2]").teacher.built.model.state_dict()
    save_file(weights, tmp_path / "t.safetensors", {"classes": '["zero", "one", "2"]'})
    (tmp_path / "map.yaml").write_text("zero: 0\none: 1\n")
    loaded = f"teacher.checkpoint={tmp_path / 't.safetensors'}"
    several = plan(f"{loaded} teacher.class_map={tmp_path / 'map.yaml'}").student.several
    assert several is not None and several.asked[0].relation.targets == (0, 1, 2)
    with pytest.raises(
        KdrunError, match=r"it has zero, one, which the data set has not; it does not know 0, 1"
    ):
        plan(loaded)
    (tmp_path / "map.yaml").write_text("- zero\n")
    with pytest.raises(KdrunError, match="must be a mapping with lines `teacher's class: data set's class`"):
        plan(f"{loaded} teacher.class_map={tmp_path / 'map.yaml'}")
