from __future__ import annotations

import pytest
import torch

from kdrun.losses.nst import nst

from .golden_cases import case, close, matches, names


@pytest.mark.parametrize("name", names("nst"))
def test_golden(name: str) -> None:
    tensors = case("nst", name)
    matches(tensors, nst(tensors["student.f0"], tensors["teacher.f0"]))


def test_by_hand() -> None:
    # One channel each, (1, 0) and (3, 4) / 5: 1 + 1 - 2 * 0.6^2
    student, teacher = torch.tensor([1.0, 0.0]).view(1, 1, 1, 2), torch.tensor([3.0, 4.0]).view(1, 1, 1, 2)
    assert nst(student, teacher).item() == pytest.approx(1.28)


def test_scale_and_order_of_channels_change_nothing() -> None:
    generator = torch.Generator().manual_seed(0)
    student = torch.randn(3, 4, 6, 6, generator=generator, dtype=torch.float64)
    teacher = torch.randn(3, 7, 3, 3, generator=generator, dtype=torch.float64)
    close(nst(5 * student.flip(1), teacher / 3), nst(student, teacher), 1e-12)
    assert nst(student, student.flip(1)).abs().max() < 1e-15
