from __future__ import annotations

import math

import pytest
import torch

from kdrun.losses.sp import sp

from .golden_cases import case, close, matches, names


@pytest.mark.parametrize("name", names("sp"))
def test_golden(name: str) -> None:
    tensors = case("sp", name)
    kind = "embedding" if name == "b8d16" else "feature"
    matches(tensors, sp(tensors[f"student.{kind}"], tensors[f"teacher.{kind}"]))


def test_by_hand() -> None:
    # The student's similarities are the identity, the teacher's all ones, rows (1, 1) / sqrt 2
    assert sp(torch.eye(2), torch.ones(2, 2)).item() == pytest.approx(1 - 1 / math.sqrt(2))


def test_scale_changes_nothing() -> None:
    generator = torch.Generator().manual_seed(0)
    student = torch.randn(5, 4, 3, 3, generator=generator, dtype=torch.float64)
    teacher = torch.randn(5, 7, 2, 2, generator=generator, dtype=torch.float64)
    close(sp(3 * student, teacher / 9), sp(student, teacher), 1e-12)
    assert sp(student, 2 * student).item() < 1e-28
