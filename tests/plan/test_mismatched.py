"""What does not fit together is called out: sizes of a pair, absent classes, a training that diverges."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from kdrun.config.arguments import parse
from kdrun.config.compose import single
from kdrun.plan.notes import mismatched
from kdrun.plan.plan import Plan, make_plan
from kdrun.plan.words import header
from kdrun.progress.watchers import Diverging


def plan(*overrides: str) -> Plan:
    return make_plan(single(parse(overrides)).run)


@pytest.mark.parametrize(
    ("overrides", "notes"),
    [
        ([], []),
        (["teacher=cnn_digits_medium"], []),
        (["student=cnn_digits_medium"], []),
        (["teacher=mlp1200", "student=cnn_digits_small"], []),
        (["teacher=mlp1200"], ["the student is still cnn_digits_small (994 parameters), beside mlp1200"]),
        (["student=mlp1200"], ["the teacher is still cnn_digits (122 k parameters), beside mlp1200"]),
        (["student=cnn_digits"],
         ["teacher and student are both cnn_digits (122 k parameters), the teacher by data set: choose a "
          "larger one with teacher=NAME"]),
        (["teacher=cnn_digits_small"],
         ["teacher and student are both cnn_digits_small (994 parameters), the student by data set: choose a "
          "smaller one with student=NAME"]),
        (["dataset.validation=9"], ["1 class of 10 is missing in validation: 8"]),
        (["dataset.validation=0"], []),
        (["teacher=mlp1200", "dataset.validation=9", "quick=true"], []),
    ],
)  # fmt: skip
def test_notes(overrides: list[str], notes: list[str]) -> None:
    made = plan(*overrides)
    found = mismatched(made)
    assert len(found) == len(notes) and all(f.startswith(n) for f, n in zip(found, notes, strict=True)), found
    assert all(f"note   {note}" in header(made, 1000).splitlines() for note in found)


def test_the_header_says_whose_the_models_are() -> None:
    assert "models teacher and student by data set" in header(plan()).splitlines()
    assert "models student by data set" in header(plan("teacher=cnn_digits_medium")).splitlines()
    assert "models" not in header(plan("teacher=cnn_digits", "student=cnn_digits_small"))
    assert "       recipe.teacher.lr=0.01  recipe.student.lr=0.01" in header(plan("lr=0.01")).splitlines()


@pytest.mark.parametrize(
    ("losses", "said"),
    [([2.4, 2.0, 1.5], 0), ([9.0, 2.0, 1.0], 0), ([2.3, 9.0, 40.0], 1), ([float("nan")] * 3, 0)],
)
def test_a_training_that_diverges_is_said_once(losses: list[float], said: int) -> None:
    lines: list[str] = []
    shown: Any = SimpleNamespace(say=lines.append)
    follower = Diverging(shown, plan().teacher)
    for epoch, loss in enumerate(losses, 1):
        follower.epoch({"epoch": epoch, "epochs": len(losses), "lr": 1.0, "terms": {"hard": loss}})
    assert len(lines) == said
    assert all(line.startswith("note   the teacher diverges: its loss on the labels is 9") for line in lines)
    assert all("recipe.teacher.lr is 0.005" in line for line in lines)
