from __future__ import annotations

import math

import pytest
import torch

from kdrun.evaluation.agreement import agreement, figures, kl_teacher_student
from tests.evaluation.subjects import one_hot, subject

LABELS = torch.zeros(4, dtype=torch.int64)


def test_agreement_by_hand() -> None:
    assert agreement(one_hot([0, 1, 2, 0]), one_hot([0, 1, 1, 0])) == 75.0


def test_kl_by_hand() -> None:
    teacher, student = torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[0.25, 0.75]]).log()
    expected = 0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75)
    assert kl_teacher_student(student, teacher) == pytest.approx(expected, abs=1e-7)
    assert kl_teacher_student(teacher + 5, teacher) == pytest.approx(0, abs=1e-7)


@pytest.mark.parametrize(
    ("taught_by", "expected"), [("teacher", 75.0), ("assistant", 25.0), ("peer", 75.0), ("nobody", None)]
)
def test_the_student_is_compared_with_the_model_that_taught_it(
    taught_by: str, expected: float | None
) -> None:
    models = {
        "teacher": one_hot([0, 1, 2, 0]),
        "assistant": one_hot([0, 0, 2, 1]),
        "student": one_hot([0, 1, 1, 0]),
    }
    every = {figure.name: figure.value for figure in figures(subject(LABELS, taught_by, **models))}
    assert every.get("agreement") == expected
    assert set(every) in (set(), {"agreement", "kl_teacher_student"})


def test_without_a_teacher_there_is_nothing_to_agree_with() -> None:
    assert list(figures(subject(LABELS, student=one_hot([0, 1, 1, 0])))) == []
