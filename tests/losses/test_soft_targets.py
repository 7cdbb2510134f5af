from __future__ import annotations

import math

import pytest
import torch

from kdrun.losses.soft_targets import SoftTargets, soft_targets

from .golden_cases import case, close, matches

TEMPERATURES = {"b4c2": 2.0, "b8c10_T1": 1.0, "b8c10_T20": 20.0, "b6c10_wide": 1.0, "hand": 1.0}


@pytest.mark.parametrize("name", ["b8c10", "b1c10", "same", *TEMPERATURES])
def test_golden(name: str) -> None:
    tensors = case("kd", name)
    loss = soft_targets(tensors["student.logits"], tensors["teacher.logits"], TEMPERATURES.get(name, 4.0))
    matches(tensors, loss)


@pytest.mark.parametrize(("name", "temperature"), [("b8c10_mix", 4.0), ("hand_mix", 1.0)])
def test_golden_part_of_a_mix(name: str, temperature: float) -> None:
    tensors = case("kd", name)
    loss = soft_targets(tensors["student.logits"], tensors["teacher.logits"], temperature)
    close(loss, tensors["loss.kd"])


def test_by_hand() -> None:
    # T=1, teacher (3/4, 1/4), student (1/2, 1/2): .75 ln 1.5 + .25 ln .5
    student, teacher = torch.zeros(1, 2), torch.tensor([[3.0, 1.0]]).log()
    expected = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert soft_targets(student, teacher, 1.0).item() == pytest.approx(expected)


def test_shifts_and_equality() -> None:
    generator = torch.Generator().manual_seed(1)
    student, teacher = torch.randn(2, 7, 10, generator=generator, dtype=torch.float64)
    shift = torch.randn(7, 1, generator=generator, dtype=torch.float64)
    close(soft_targets(student + shift, teacher - shift, 3.0), soft_targets(student, teacher, 3.0), 1e-12)
    assert abs(soft_targets(student, student + shift, 3.0).item()) < 1e-14


def test_extreme_logits_stay_finite() -> None:
    student = torch.tensor([[500.0, 0.0, -500.0]], requires_grad=True)
    loss = soft_targets(student, torch.tensor([[-500.0, 0.0, 500.0]]), 4.0)
    loss.backward()
    assert loss.isfinite()
    assert student.grad is not None
    assert student.grad.isfinite().all()


def test_formula() -> None:
    assert SoftTargets(2).formula() == "2^2 KL(teacher || student, T=2)"
