from __future__ import annotations

import math

import pytest
import torch

from kdrun.losses.ttm import transformed
from kdrun.losses.wttm import power_sum

from .golden_cases import case, close, matches, names

GAMMAS = {"b4c2": 0.5, "hand": 0.5, "b8c10_g025": 0.25, "b8c10_g1": 1.0}


@pytest.mark.parametrize("name", names("wttm"))
def test_golden(name: str) -> None:
    tensors = case("wttm", name)
    gamma = GAMMAS.get(name, 0.1)
    rows = transformed(tensors["student.logits"], tensors["teacher.logits"], gamma)
    weights = power_sum(tensors["teacher.logits"], gamma)
    close(weights, tensors["out.weight"])
    matches(tensors, weights * rows)


def test_by_hand() -> None:
    teacher = torch.tensor([[9.0, 1.0]]).log()
    assert power_sum(teacher, 0.5).item() == pytest.approx(4 / math.sqrt(10))


def test_bounds_and_shifts() -> None:
    teacher = torch.randn(6, 10, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    weights = power_sum(teacher, 0.1)
    assert (weights >= 1).all()
    assert (weights <= 10**0.9).all()
    close(power_sum(teacher + 3, 0.1), weights, 1e-12)
