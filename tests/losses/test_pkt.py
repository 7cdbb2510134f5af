from __future__ import annotations

import math

import pytest
import torch

from kdrun.losses.pkt import pkt

from .golden_cases import case, close, matches, names


@pytest.mark.parametrize("name", names("pkt"))
def test_golden(name: str) -> None:
    tensors = case("pkt", name)
    matches(tensors, pkt(tensors["student.embedding"], tensors["teacher.embedding"]))


def test_by_hand() -> None:
    # Student at a right angle: rows (2/3, 1/3); teacher in one direction: rows (1/2, 1/2)
    expected = (0.5 * math.log(0.75) + 0.5 * math.log(1.5)) / 2
    assert pkt(torch.eye(2), torch.ones(2, 3)).item() == pytest.approx(expected, rel=1e-5)


def test_lengths_change_nothing() -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 6, 4, generator=generator, dtype=torch.float64)
    lengths = torch.arange(1.0, 7.0)[:, None]
    close(pkt(lengths * student, teacher), pkt(student, teacher), 1e-5)
    assert abs(pkt(student, 2 * student).item()) < 1e-7
