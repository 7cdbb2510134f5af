from __future__ import annotations

import math

import pytest
import torch

from kdrun.losses.cwd import cwd
from kdrun.losses.regressors import Connector

from .golden_cases import case, close, matches, run


def test_golden_with_connector() -> None:
    tensors = case("cwd", "authors_aligned_channels")
    connector = Connector(8, 12, relu=True)
    connected = run(connector, tensors, {"conv.": "param.conv.", "bn.": "param.bn."}, tensors["student.f"])
    matches(tensors, cwd(connected, tensors["teacher.f"], 4.0))


@pytest.mark.parametrize(("name", "temperature"), [("authors_8x8_tau4", 4.0), ("hand", 1.0)])
def test_golden(name: str, temperature: float) -> None:
    tensors = case("cwd", name)
    matches(tensors, cwd(tensors["student.f"], tensors["teacher.f"], temperature))


def test_by_hand() -> None:
    # Two positions: (1/2, 1/2) against (3/4, 1/4)
    loss = cwd(torch.zeros(1, 1, 1, 2), torch.tensor([[[[3.0, 1.0]]]]).log(), 1.0)
    assert loss.item() == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5))


def test_a_shift_of_a_channel_changes_nothing() -> None:
    student, teacher = torch.randn(
        2, 3, 4, 5, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    shift = torch.arange(4.0).view(1, 4, 1, 1)
    close(cwd(student + shift, teacher - shift, 2.0), cwd(student, teacher, 2.0), 1e-12)
