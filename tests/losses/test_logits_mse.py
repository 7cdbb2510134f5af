from __future__ import annotations

import math

import pytest
import torch

from kdrun.losses.logits_mse import logits_mse

from .golden_cases import case, close, matches, names


@pytest.mark.parametrize("name", names("logits_mse"))
def test_golden(name: str) -> None:
    tensors = case("logits_mse", name)
    matches(tensors, logits_mse(tensors["student.logits"], tensors["teacher.logits"]))


def test_by_hand() -> None:
    difference = torch.tensor([[-math.log(3), 0.0], [math.log(3), -math.log(3)]])
    assert logits_mse(difference, torch.zeros(2, 2)).tolist() == pytest.approx(
        [math.log(3) ** 2 / 2, math.log(3) ** 2]
    )


def test_a_common_shift_changes_nothing() -> None:
    student, teacher = torch.randn(2, 6, 10, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    close(logits_mse(student + 2, teacher + 2), logits_mse(student, teacher), 1e-12)
