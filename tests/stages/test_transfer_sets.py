"""Transfer sets: classes left out, a first phase with images of its own, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from kdrun.cli import main
from kdrun.errors import KdrunError
from kdrun.plan.plan import Plan, make_plan
from kdrun.plan.words import header
from tests.config.composed import composed
from tests.stages.runs import SHORT


def made(line: str = "") -> Plan:
    return make_plan(composed(line).run)


def test_classes_left_out_are_in_no_batch_of_student_and_control() -> None:
    plain, without = made("dataset=digits"), made("dataset=digits transfer_without=[3]")
    labels = without.ground.data.train.labels
    assert without.control is not None and plain.control is not None
    for training in (without.student, without.control):
        assert set(labels[training.rows].tolist()) == set(range(10)) - {3}
        assert training.row_set().steps == plain.student.row_set().steps
        assert not torch.isin(training.rows, without.ground.transfer.kept_out).any()
        assert training.key["transfer_without"] == ["3"]
    assert set(labels[without.ground.transfer.kept_out].tolist()) == set(range(10))
    assert without.teacher.fingerprint == plain.teacher.fingerprint
    assert len(without.teacher.rows) == 600
    two = made("dataset=digits transfer_classes=[7,8]").student
    assert set(labels[two.rows].tolist()) == {7, 8}


def test_the_plan_names_classes_that_the_student_does_not_see() -> None:
    lines = {
        "transfer_without=[3]": "data   student and control see no 3; 60 images stay out to choose a bias",
        "transfer_without=[1,2,3,4,5]": "data   student and control see no 1, 2, 3, 4 and 1 more; 60 images",
        "transfer_classes=[7,8] control=false": "data   the student sees 7, 8 only; 60 images stay out",
    }
    for line, said in lines.items():
        assert said in header(made(f"dataset=digits {line}"), 1000)
    assert "see" not in header(made("dataset=digits"))


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("dataset=digits transfer_without=[12]", "transfer_without=12: no such class"),
        (
            "dataset=digits transfer_without=[1] transfer_classes=[2]",
            "transfer_without=.* exclude each other",
        ),
        ("transfer_without=[3]", r"transfer_without=\[3\]: the classes of images without labels are not"),
        ("transfer=unlabelled", "transfer=unlabelled: loss.hard needs labels"),
        ("phase_one.transfer=some", "phase_one.transfer=some: no such choice"),
        ("dataset=digits transfer_classes=[0,1,2,3,4,5,6,7,8,9]", "transfer_classes=.*: leaves no class out"),
        (
            "dataset=digits method=soft transfer=unlabelled",
            "transfer=unlabelled: all images have labels",
        ),
    ],
)
def test_refusals(line: str, error: str) -> None:
    with pytest.raises(KdrunError, match=f"^{error}") as raised:
        made(line)
    assert "\n" not in str(raised.value)


def test_a_first_phase_has_images_of_its_own() -> None:
    plan, other = (
        made("experiment=label_free_first"),
        made("experiment=label_free_first phase_one.transfer=unlabelled"),
    )
    assert plan.control is not None
    first, last = plan.student.mixes
    assert [len(plan.student.row_set(mix).rows) for mix in (first, last)] == [600, 60]
    assert [len(other.student.row_set(mix).rows) for mix in other.student.mixes] == [540, 60]
    assert other.student.fingerprint != plan.student.fingerprint
    assert plan.equation == "2^2 KL(teacher || student, T=2) for 40 epochs, then CE"
    assert plan.control.epochs == plan.student.epochs == 80
    assert plan.control.seed == plan.student.seed
    assert (
        made("method=ab phase_one.transfer=all").student.fingerprint == made("method=ab").student.fingerprint
    )


def test_a_report_has_the_bias_and_errors_by_class(tmp_path: Path) -> None:
    more = ["dataset=digits", "transfer_without=[3]", f"outputs_dir={tmp_path}"]
    assert main([*SHORT, *more]) == 0
    report = json.loads(next(tmp_path.glob("runs/*/report.json")).read_text())
    student, control = (report["models"][role]["figures"] for role in ("student", "control"))
    assert {"bias", "top1_biased", "errors_missing", "errors_3", "errors_9"} <= student.keys()
    assert control["errors_3"] == control["errors_missing"]
