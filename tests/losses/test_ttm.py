from __future__ import annotations

import math

import pytest
import torch

from kdrun.losses.soft_targets import soft_targets
from kdrun.losses.ttm import transformed

from .golden_cases import case, close, matches, names

GAMMAS = {"b4c2": 0.5, "hand": 0.5, "b8c10_g025": 0.25, "b8c10_g1": 1.0}


@pytest.mark.parametrize("name", names("ttm"))
def test_golden(name: str) -> None:
    tensors = case("ttm", name)
    rows = transformed(tensors["student.logits"], tensors["teacher.logits"], GAMMAS.get(name, 0.1))
    close(rows, tensors["out.kl_per_sample"])
    matches(tensors, rows)


def test_by_hand() -> None:
    # (.9, .1) to the power 1/2, normalised: (3/4, 1/4); the student is uniform
    rows = transformed(torch.zeros(1, 2), torch.tensor([[9.0, 1.0]]).log(), 0.5)
    assert rows.item() == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5))


def test_gamma_one_is_soft_targets_and_shifts_do_nothing() -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 6, 10, generator=generator, dtype=torch.float64)
    close(transformed(student + 1, teacher - 4, 1.0), soft_targets(student, teacher, 1.0), 1e-12)


def test_a_sure_teacher_does_not_underflow() -> None:
    teacher = torch.zeros(1, 10)
    teacher[0, 0] = 150.0
    assert transformed(torch.zeros(1, 10), teacher, 0.1).item() == pytest.approx(2.30254104, rel=1e-6)
