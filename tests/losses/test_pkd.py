from __future__ import annotations

import pytest
import torch

from kdrun.losses.pkd import pkd

from .golden_cases import case, close, matches, names


@pytest.mark.parametrize("name", names("pkd"))
def test_golden(name: str) -> None:
    tensors = case("pkd", name)
    matches(tensors, pkd(tensors["student.f"], tensors["teacher.f"]))


def test_by_hand() -> None:
    # Four positions, correlation -1: (1 - r) (n - 1) / n = 2 * 3 / 4
    student = torch.tensor([1.0, -1.0, 1.0, -1.0]).view(1, 1, 2, 2)
    assert pkd(student, -student).item() == pytest.approx(1.5, rel=1e-5)


def test_scale_and_shift_change_nothing() -> None:
    student, teacher = torch.randn(
        2, 3, 4, 5, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    close(pkd(4 * student + 1, teacher / 3 - 2), pkd(student, teacher), 1e-5)
    assert pkd(student, 2 * student).item() < 1e-11
