from __future__ import annotations

import math

import pytest
import torch

from kdrun.losses.cc import cc, kernel

from .golden_cases import case, close, matches, names


@pytest.mark.parametrize("name", names("cc"))
def test_golden(name: str) -> None:
    tensors = case("cc", name)
    matches(tensors, cc(tensors["student.embedding"], tensors["teacher.embedding"]))


def test_by_hand() -> None:
    # Cosine 0 against 1, off the diagonal: half the square of e^-0.8 (0.8 + 0.32)
    expected = (math.exp(-0.8) * 1.12) ** 2 / 2
    assert cc(torch.eye(2), torch.ones(2, 3)).item() == pytest.approx(expected, rel=1e-5)


def test_lengths_change_nothing_and_high_orders_are_the_gaussian() -> None:
    student, teacher = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    close(cc(student * torch.arange(1.0, 7.0)[:, None], teacher), cc(student, teacher), 1e-12)
    unit = torch.nn.functional.normalize(student, dim=1)
    gaussian = (-0.4 * (unit[:, None] - unit[None]).square().sum(dim=2)).exp()
    close(kernel(student, 0.4, 20), gaussian, 1e-9)
