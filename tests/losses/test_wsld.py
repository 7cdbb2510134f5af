from __future__ import annotations

import math

import pytest
import torch

from kdrun.losses.cross_entropy import cross_entropy
from kdrun.losses.wsld import row_weights, wsld

from .golden_cases import case, close, matches

CASES = {
    "b8c10": (2.0, 2.5),
    "b1c10": (2.0, 2.5),
    "b4c2": (2.0, 2.5),
    "b8c10_T4a1": (4.0, 1.0),
    "hand": (1.0, 1.0),
}


@pytest.mark.parametrize("name", CASES)
def test_golden(name: str) -> None:
    tensors = case("wsld", name)
    temperature, alpha = CASES[name]
    student, teacher, labels = tensors["student.logits"], tensors["teacher.logits"], tensors["target"]
    close(row_weights(student, teacher, labels), tensors["out.weight"])
    soft = wsld(student, teacher, labels, temperature)
    close(soft, tensors["loss.soft"])
    matches(tensors, cross_entropy(student, labels) + alpha * soft)


def test_by_hand() -> None:
    # label 0: CE of the student ln 2, of the teacher ln 4/3; the soft cross-entropy is ln 2
    student, teacher = torch.zeros(1, 2), torch.tensor([[3.0, 1.0]]).log()
    expected = (1 - math.exp(-math.log(2) / math.log(4 / 3))) * math.log(2)
    assert wsld(student, teacher, torch.tensor([0]), 1.0).item() == pytest.approx(expected, rel=1e-5)


def test_weights_rise_with_what_the_student_does_not_know() -> None:
    teacher = torch.tensor([[1.0, 0.0]]).expand(3, 2)
    student = torch.tensor([[5.0, 0.0], [0.0, 0.0], [0.0, 5.0]])
    weights = row_weights(student, teacher, torch.zeros(3, dtype=torch.long))
    assert weights[0] < weights[1] < weights[2] < 1


def test_logit_shift_changes_nothing() -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 6, 10, generator=generator, dtype=torch.float64)
    labels = torch.arange(6)
    close(wsld(student + 2, teacher - 5, labels, 2.0), wsld(student, teacher, labels, 2.0), 1e-12)
