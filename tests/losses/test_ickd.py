from __future__ import annotations

import math

import pytest
import torch

from kdrun.losses.ickd import ickd
from kdrun.losses.regressors import Connector

from .golden_cases import case, close, matches, run


def test_golden_with_connector() -> None:
    tensors = case("ickd", "same_size")
    renamed = {"conv.": "param.embed_s.conv2d.", "bn.": "param.embed_s.l2norm."}
    connected = run(Connector(8, 12), tensors, renamed, tensors["student.f"])
    matches(tensors, ickd(connected, tensors["teacher.f"]))


def test_golden() -> None:
    tensors = case("ickd", "hand_no_embedding")
    matches(tensors, ickd(tensors["student.f"], tensors["teacher.f"]))


def test_by_hand() -> None:
    # Rows (1, 0), (0, 1) against (1, 1) / sqrt 2 twice
    student = torch.eye(2).view(1, 2, 1, 2)
    assert ickd(student, torch.ones(1, 2, 1, 2)).item() == pytest.approx(2 - math.sqrt(2))


def test_the_order_of_positions_and_the_scale_change_nothing() -> None:
    student, teacher = torch.randn(
        2, 3, 4, 5, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    close(ickd(3 * student.flip(2), teacher.flip(3)), ickd(student, teacher), 1e-12)
    assert ickd(student, 2 * student.flip(2)).max() < 1e-25
