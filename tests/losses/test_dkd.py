from __future__ import annotations

import math

import pytest
import torch

from kdrun.losses.dkd import decoupled
from kdrun.losses.soft_targets import soft_targets

from .golden_cases import case, close, matches, names

OTHERS = {"b8c10_a1b1T1": (1.0, 1.0, 1.0), "b8c10_nckd_only": (0.0, 1.0, 4.0), "hand": (1.0, 8.0, 1.0)}
OTHERS["hand2x2"] = OTHERS["hand"]


@pytest.mark.parametrize("name", names("dkd"))
def test_golden(name: str) -> None:
    tensors = case("dkd", name)
    alpha, beta, temperature = OTHERS.get(name, (1.0, 8.0, 4.0))
    parts = decoupled(tensors["student.logits"], tensors["teacher.logits"], tensors["target"], temperature)
    close(parts.target, tensors["loss.tckd"])
    close(parts.others, tensors["loss.nckd"])
    matches(tensors, alpha * parts.target + beta * parts.others)


def test_by_hand() -> None:
    # T=1, label 1: teacher (1/9, 6/9, 2/9), student (1/4, 1/2, 1/4); both parts are 2/3 ln 4/3 + 1/3 ln 2/3
    parts = decoupled(
        torch.tensor([[1.0, 2.0, 1.0]]).log(), torch.tensor([[1.0, 6.0, 2.0]]).log(), torch.tensor([1]), 1.0
    )
    expected = 2 / 3 * math.log(4 / 3) + 1 / 3 * math.log(2 / 3)
    assert parts.target.item() == pytest.approx(expected, rel=1e-5)
    assert parts.others.item() == pytest.approx(expected, rel=1e-5)


def test_parts_add_up_to_soft_targets() -> None:
    generator = torch.Generator().manual_seed(3)
    student, teacher = torch.randn(2, 1, 10, generator=generator, dtype=torch.float64)
    label = torch.tensor([4])
    parts = decoupled(student, teacher, label, 4.0)
    rest = 1 - (teacher / 4).softmax(dim=1)[0, 4]
    close(parts.target + rest * parts.others, soft_targets(student, teacher, 4.0), 1e-12)


def test_confident_logits_stay_finite_in_float32() -> None:
    student = torch.zeros(1, 10)
    student[0, 0] = 500.0
    student.requires_grad_()
    teacher = torch.linspace(-1, 1, 10)[None]
    parts = decoupled(student, teacher, torch.tensor([0]), 4.0)
    (parts.target + parts.others).backward()
    assert parts.target.isfinite()
    assert student.grad is not None
    assert student.grad.isfinite().all()
