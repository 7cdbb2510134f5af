"""Trainings for 8 bits in a plan: what they begin with, who teaches them, how long they are."""

from __future__ import annotations

import pytest

from kdrun.errors import KdrunError
from kdrun.models.quantised import quantisation
from kdrun.plan.int8 import HINTON
from kdrun.plan.plan import Plan, make_plan
from kdrun.plan.words import Status, steps
from tests.config.composed import composed

NAMES = ["int8_student_labels", "int8_student_teacher", "int8_control_labels", "int8_control_teacher"]


def made(line: str = "") -> Plan:
    return make_plan(composed(line).run)


@pytest.fixture(scope="module")
def plan() -> Plan:
    return made("quantise=int8 alpha={from:0.5,to:0.8,epochs:10}")


def test_four_trainings_come_last_and_only_if_they_are_asked_for(plan: Plan) -> None:
    assert [each.name for each in plan.for_int8] == NAMES
    assert plan.rounds[-1] == plan.for_int8 and plan.every == (*plan.trainings, *plan.for_int8)
    plain = made("alpha={from:0.5,to:0.8,epochs:10}")
    assert plain.for_int8 == () and plain.every == plain.trainings
    assert [t.fingerprint for t in plain.trainings] == [t.fingerprint for t in plan.trainings]


def test_each_begins_with_its_own_and_all_take_the_same_steps(plan: Plan) -> None:
    began = [each.for_int8.began for each in plan.for_int8 if each.for_int8]
    assert began == [plan.student, plan.student, plan.control, plan.control]
    assert [each.teachers for each in plan.for_int8] == [(), (plan.teacher,)] * 2
    assert plan.for_int8[1].after == (plan.teacher, plan.student)
    assert len({each.row_set().steps for each in plan.for_int8}) == 1
    (recipe,) = {repr(each.recipe) for each in plan.for_int8}
    own = plan.for_int8[0].recipe
    assert (own.epochs, own.lr, own.schedule, own.warmup) == (16, pytest.approx(3e-3), "cosine", 0.0)
    assert [len(each.rows) for each in plan.for_int8] == [60, 600, 60, 600]
    assert {each.folder.parent.name for each in plan.for_int8} == {"models"}
    assert len({each.fingerprint for each in plan.every}) == 7
    assert quantisation(plan.for_int8[0].initial().model).layers == 3 and recipe


def test_the_teacher_teaches_by_the_runs_own_loss_as_it_ended(plan: Plan) -> None:
    loss = plan.for_int8[1].loss
    assert loss["soft"]["weight"] == 0.8 and loss["soft"]["temperature"] == 2.0
    assert loss["hard"]["weight"] == pytest.approx(0.2)
    assert list(plan.for_int8[0].loss) == ["hard"] and plan.for_int8[0].loss["hard"]["weight"] == 1.0
    by_layers = made("quantise=int8 method=rkd")
    assert dict(by_layers.for_int8[1].loss["soft"]).items() >= HINTON["soft"].items()


def test_its_own_settings_are_in_its_own_keys_alone(plan: Plan) -> None:
    other = made("quantise=int8 alpha={from:0.5,to:0.8,epochs:10} int8.weight_bits=8")
    assert [t.fingerprint for t in other.trainings] == [t.fingerprint for t in plan.trainings]
    assert not {t.fingerprint for t in other.for_int8} & {t.fingerprint for t in plan.for_int8}


@pytest.mark.parametrize(
    ("line", "key", "problem"),
    [
        ("quantise=int4", "quantise", "int8"),
        ("quantise=int8 control=false", "quantise", "control=true"),
        ("quantise=int8 control=smoothed", "quantise", "plain control"),
        ("quantise=int8 method=dml", "quantise", "a peer"),
        ("quantise=int8 student.reuse_classifier=true", "quantise", "reuse_classifier=false"),
        ("quantise=int8 method=none", "quantise", "nothing is distilled"),
        ("quantise=int8 int8.epochs=0", "int8.epochs", "whole number"),
        ("quantise=int8 int8.epochs=1.5", "int8.epochs", "share"),
        ("quantise=int8 int8.lr=0", "int8.lr", "above 0"),
        ("quantise=int8 int8.weight_bits=4", "int8.weight_bits", "7 or 8"),
    ],
)
def test_what_cannot_be_is_one_line(line: str, key: str, problem: str) -> None:
    with pytest.raises(KdrunError) as caught:
        made(line)
    assert caught.value.key == key and problem in str(caught.value)


def test_a_long_row_of_the_plan_continues_below_its_last_cell(plan: Plan) -> None:
    rows = steps(plan, lambda training: Status("train"), 80)
    row = next(row for row in rows if "int8_student_labels" in row)
    first, second = row.splitlines()
    assert second.strip() == "the student" and second.index("the") == first.index("    60 labelled")
    assert max(len(line) for row in rows for line in row.splitlines()) <= 80


def test_a_narrow_screen_has_the_last_cell_below_its_row(plan: Plan) -> None:
    rows = steps(plan, lambda training: Status("train"), 56)
    row = next(row for row in rows if "int8_student_labels" in row).splitlines()
    assert row[0].endswith("epoch") or row[0].endswith("epochs")
    assert {len(line) - len(line.lstrip()) for line in row[1:]} == {row[0].index("train  ")}
    assert max(len(line) for row in rows for line in row.splitlines()) <= 56
