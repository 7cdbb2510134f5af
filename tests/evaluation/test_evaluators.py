"""Evaluators are found by name; one of the user's that fails takes no other figure with it."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from kdrun.config.choices import EVALUATORS
from kdrun.config.files import shipped
from kdrun.config.schema import Evaluation
from kdrun.errors import KdrunError
from kdrun.evaluation.evaluators import evaluated, evaluator
from tests.evaluation.subjects import one_hot, subject

LABELS = torch.tensor([0, 1, 2, 0])
RUN = subject(LABELS, teacher=one_hot([0, 1, 2, 0]), student=one_hot([0, 1, 1, 0]))


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package `own_figures` of the user's."""
    folder = tmp_path / "own_figures"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    for name in [name for name in sys.modules if name.startswith("own_figures")]:
        monkeypatch.delitem(sys.modules, name)
    return folder


def test_the_usual_evaluators_are_there_and_yield_what_a_report_holds() -> None:
    written = OmegaConf.load(shipped() / "config.yaml").evaluation
    assert Evaluation().figures == list(EVALUATORS) == list(written.figures)
    figures, failed = evaluated(EVALUATORS, RUN)
    assert failed == {}
    names = {figure.name for figure in figures}
    assert names == {"n", "top1", "nll", "ece", "agreement", "kl_teacher_student", "params", "macs", "bytes",
                     "compression"}  # fmt: skip


@pytest.mark.parametrize("name", ["acuracy", "validation", "no.such.module"])
def test_names_that_are_none_are_refused(name: str) -> None:
    with pytest.raises(KdrunError) as error:
        evaluator(name)
    assert str(error.value).startswith(f"evaluation.figures={name}: ")
    assert "." in name or "accuracy" in str(error.value)


def test_an_evaluator_of_ones_own(own: Path) -> None:
    (own / "half.py").write_text(
        "def figures(subject):\n"
        "    for answers in subject.answers:\n"
        "        yield answers.figure('half', answers.logits.mean() / 2, 'nats')\n"
    )
    (teacher, student), failed = evaluated(["own_figures.half"], RUN)
    assert failed == {}
    assert (teacher.name, teacher.unit, teacher.whose, teacher.part, teacher.weights) == (
        "half", "nats", "teacher", "test", "last",
    )  # fmt: skip
    assert type(student.value) is float and student.value == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("yield answers.figure('x', 1 / 0, '')", "ZeroDivisionError: division by zero (broken.py, line 3)"),
        ("yield answers.figure('top1', 3.0, '%')", "top1: another evaluator has a figure of that name"),
        (
            "yield answers._replace(whose='me').figure('x', 1.0, '')",
            "x: whose='me' is none of teacher, student",
        ),
        ("yield answers.figure('x', 'good', '')", "could not convert string to float: 'good'"),
    ],
)
def test_one_that_fails_leaves_its_own_figures_out(own: Path, body: str, reason: str) -> None:
    (own / "broken.py").write_text(
        f"def figures(subject):\n    for answers in subject.answers:\n        {body}\n"
    )
    figures, failed = evaluated(["accuracy", "own_figures.broken", "cost"], RUN)
    note = failed.pop("own_figures.broken")
    assert (
        not failed
        and note.startswith("own_figures.broken failed, its figures are left out: ")
        and reason in note
    )
    assert {figure.name for figure in figures} >= {"top1", "params"} and "x" not in {f.name for f in figures}


def test_a_bug_of_ours_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kdrun.evaluation.accuracy.top_k", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        evaluated(["accuracy"], RUN)
