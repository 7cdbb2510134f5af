"""A teacher without classes: only its layers are read, and nothing is said of what it would answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import kdrun
from kdrun.cli import main
from kdrun.errors import KdrunError
from kdrun.plan.plan import Plan, make_plan
from kdrun.stages.pipeline import there
from kdrun.stages.saved import load_model, saved
from kdrun.stages.subject import subject_of
from tests.config.composed import composed
from tests.stages.runs import SHORT

HEAD = "classifier."
"""Where the weights of a cnn_digits' classifier lie."""


def planned(words: list[str]) -> Plan:
    return make_plan(composed(" ".join(f'"{word}"' for word in words)).run)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a cnn_digits with its classifier, which nobody has trained."""
    file = tmp_path_factory.mktemp("headless") / "whole.safetensors"
    save_file(planned(["teacher=cnn_digits"]).teacher.initial().model.state_dict(), file)
    return file


@pytest.fixture(scope="module")
def words(whole: Path) -> list[str]:
    """Of a run that learns from layers alone, then from labels."""
    backbone = whole.with_name("backbone.safetensors")
    tensors = {name: tensor for name, tensor in load_file(whole).items() if not name.startswith(HEAD)}
    save_file(tensors, backbone)
    return [
        "experiment=label_free_first", "~phase_one.loss.soft", "+loss@phase_one.loss.sp=sp",
        f"teacher.checkpoint={backbone}", "teacher.head=none", *SHORT, "threads=1",
        f"outputs_dir={whole.parent}",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def ran(words: list[str]) -> Plan:
    assert main([*words, "evaluation.plots=true"]) == 0
    return planned(words)


def test_the_report_has_no_figure_of_its_answers(ran: Plan) -> None:
    report: Any = json.loads((ran.student.folder / "report.json").read_text())
    teacher = report["models"]["teacher"]
    assert teacher["params"] == 121_344 and not {"last", "val_best"} & teacher.keys()
    assert not {"agreement", "kl_teacher_student", "gap_closed"} & report["comparison"].keys()
    assert report["comparison"]["compression"] > 100 and "gain_top1" in report["comparison"]
    page = (ran.student.folder / "report.md").read_text()
    assert "agreement" not in page and "| top-1 test | % | - |" in page
    names = {file.name for file in ran.student.folder.iterdir()}
    assert {"errors.csv", "curves.png", "errors.png"} <= names and "knowledge.png" not in names
    subject = subject_of(ran, there(ran, ()))
    assert {answers.whose for answers in subject.answers} == {"student", "control"}


def test_its_layers_are_those_of_the_whole_model(words: list[str], whole: Path) -> None:
    """Also if the file still holds a classifier, which is left out."""
    images = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    model = planned(["teacher=cnn_digits"]).teacher.initial().model.eval()
    expected = model.get_submodule("dense")(model.get_submodule("features")(images).flatten(1))
    for file in (whole, whole.with_name("backbone.safetensors")):
        weights = saved(planned([f"teacher.checkpoint={file}", "teacher.head=none", "method=sp"]).teacher)
        assert weights is not None
        torch.testing.assert_close(load_model(weights, "last").eval()(images), expected)


def test_check_and_look_say_that_it_has_no_classes(
    ran: Plan, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", *words, "seed=1"]) == 0
    out = capsys.readouterr().out
    assert "no classes; only its layers are read" in out and "nothing to be right about" in out
    assert main(["look", str(ran.student.folder)]) == 2
    assert "its teacher has no classes, so it answers nothing" in capsys.readouterr().err
    assert kdrun.load(ran.student.folder).classes == ran.ground.data.classes


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "loss.soft: reads the logits of teacher, which has no classes"),
        ("method=cat_kd", "loss.attention: reads the classifier of teacher, which has no classes"),
        ("method=none +loss@loss.soft=soft_targets", "loss.soft: reads the logits of teacher"),
        ("method=sp teacher.classes=[a,b]", "teacher.classes: a teacher without a head has no classes"),
        ("method=sp teacher.head=no", "teacher.head=no: no such choice. Choices: auto, none"),
        ("method=sp teacher.checkpoint=null", "teacher.head=none: a teacher that is trained here learns cla"),
        ("method=dml", "teacher.head: there is one data set"),
        ("method=simkd", "student.reuse_classifier=true: goes with a teacher that has"),
    ],
)
def test_what_needs_classes_is_refused_when_it_is_planned(line: str, message: str, whole: Path) -> None:
    with pytest.raises(KdrunError, match=message) as caught:
        planned([f"teacher.checkpoint={whole}", "teacher.head=none", *line.split()])
    assert "\n" not in str(caught.value)


def test_beside_a_teacher_with_classes_a_term_names_the_other(whole: Path) -> None:
    two = f"teacher=[cnn_digits,{{name: cnn_digits, checkpoint: '{whole}', head: none}}]"
    named = ["loss.soft.teacher=cnn_digits", "+loss@loss.sp=sp", "loss.sp.teacher=cnn_digits_2"]
    plan = planned([two, *named])
    assert plan.student.several is not None and not plan.student.several.blocks
    with pytest.raises(
        KdrunError, match=r"loss\.soft\.teacher: reads the logits of all teachers, and cnn_digits_2"
    ):
        planned([two, *named[1:]])
