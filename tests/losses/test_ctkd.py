from __future__ import annotations

import math

import pytest
import torch

from kdrun.losses.ctkd import CTKD, learned_temperature
from kdrun.losses.dkd import decoupled
from kdrun.losses.mix import make_mix
from kdrun.losses.soft_targets import soft_targets
from kdrun.types import Batch, Outputs

from .golden_cases import case, close, matches

CASES = {"b8c10": -1.0, "b1c10": -1.0, "b8c10_lam05": -0.5, "b8c10_lam0": 0.0, "hand": -1.0}


@pytest.mark.parametrize("name", CASES)
def test_golden(name: str) -> None:
    tensors = case("ctkd", name)
    lowest, span = (0.5, 1.0) if name == "hand" else (1.0, 20.0)
    temperature = learned_temperature(tensors["param.theta"], CASES[name], lowest, span)
    close(temperature, tensors["out.temperature"])
    matches(tensors, soft_targets(tensors["student.logits"], tensors["teacher.logits"], temperature[0]))


def test_golden_with_dkd() -> None:
    tensors = case("ctkd", "b8c10_dkd")
    temperature = learned_temperature(tensors["param.theta"], -1.0, 1.0, 20.0)[0]
    parts = decoupled(tensors["student.logits"], tensors["teacher.logits"], tensors["target"], temperature)
    matches(tensors, parts.target + 2.0 * parts.others)


def test_by_hand() -> None:
    theta = torch.zeros((), requires_grad=True)
    temperature = learned_temperature(theta, -1.0, 0.5, 1.0)
    temperature.backward()
    assert temperature.item() == 1.0
    assert theta.grad is not None
    assert theta.grad.item() == -0.25


def test_the_curriculum_starts_still_and_then_climbs() -> None:
    schedule = {"from": 0.0, "to": -1.0, "epochs": 10, "shape": "cosine"}
    mix = make_mix({"soft": {"name": "ctkd", "reversal": schedule}})
    generator = torch.Generator().manual_seed(0)
    student, teacher = (Outputs(logits) for logits in torch.randn(2, 6, 10, generator=generator))
    batch = Batch(student.logits, torch.arange(6))
    slopes = []
    for epoch in (0, 1, 10):
        mix.advance(epoch)
        (slope,) = torch.autograd.grad(mix(student, teacher, batch).total, list(mix.parameters()))
        slopes.append(slope.item())
    assert slopes[0] == 0
    assert slopes[1] / slopes[2] == pytest.approx((1 - math.cos(math.pi / 10)) / 2, rel=1e-4)


def test_starts_at_the_published_temperature() -> None:
    theta = next(CTKD().parameters())
    assert learned_temperature(theta, -1.0, 1.0, 20.0).item() == pytest.approx(15.621172)
