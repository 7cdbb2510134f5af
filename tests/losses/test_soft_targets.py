from __future__ import annotations

import math

import pytest
import torch

from kdrun.errors import KdrunError
from kdrun.losses.mix import make_mix
from kdrun.losses.soft_targets import SoftTargets, soft_targets
from kdrun.types import Batch, Outputs, Shapes

from .golden_cases import case, close, matches, names

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


@pytest.mark.parametrize("name", names("soft_ce"))
def test_golden_cross_entropy_with_soft_targets(name: str) -> None:
    # Greater by the teacher's entropy, which has no gradient
    tensors, temperature = case("soft_ce", name), 1.0 if name == "hand" else 4.0
    log_teacher = (tensors["teacher.logits"] / temperature).log_softmax(dim=1)
    entropy = -(log_teacher.exp() * log_teacher).sum(dim=1).mean() * temperature**2
    loss = soft_targets(tensors["student.logits"], tensors["teacher.logits"], temperature)
    matches(tensors, loss + entropy)


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
    assert soft_targets(student, student + shift, 3.0).abs().max() < 1e-14


def test_extreme_logits_stay_finite() -> None:
    student = torch.tensor([[500.0, 0.0, -500.0]], requires_grad=True)
    loss = soft_targets(student, torch.tensor([[-500.0, 0.0, 500.0]]), 4.0)
    loss.backward()
    assert loss.isfinite()
    assert student.grad is not None
    assert student.grad.isfinite().all()


def test_formula() -> None:
    assert SoftTargets(2).formula() == "2^2 KL(teacher || student, T=2)"
    by_class = SoftTargets(2, [0.5, 3, 1])
    assert by_class.formula() == "T^2 KL(teacher || student, T=1..6 by class)"


def test_a_temperature_for_each_class() -> None:
    student, teacher = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    outputs, batch = (Outputs(student), Outputs(teacher)), Batch(student, torch.zeros(5))
    close(SoftTargets(2, [1.5] * 3)(*outputs, batch), SoftTargets(3)(*outputs, batch), 1e-12)
    # T = (1, 2, 4): the logits divided beforehand, times (1 + 4 + 16) / 3
    factors = torch.tensor([0.5, 1.0, 2.0])
    expected = 7 * soft_targets(student / (2 * factors), teacher / (2 * factors), 1.0)
    close(SoftTargets(2, factors.tolist())(*outputs, batch), expected, 1e-12)


def test_temperatures_of_too_few_classes_are_refused() -> None:
    shapes = Shapes({"logits": (3,)}, 0)
    SoftTargets(2, [1, 1, 1]).build(shapes, shapes)
    with pytest.raises(
        KdrunError, match="per_class: a number for each of the 3 classes is needed; there are 2"
    ):
        SoftTargets(2, [1, 1]).build(shapes, shapes)
    with pytest.raises(KdrunError, match="per_class=-1: must be above 0"):
        SoftTargets(2, [1, -1, 1])
    with pytest.raises(KdrunError, match=r"soft\.per_class=2: a list of numbers is needed"):
        make_mix({"soft": {"name": "soft_targets", "per_class": 2}})
