from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import cross_entropy

from kdrun.errors import KdrunError
from kdrun.losses.mlkd import MLKD, levels
from kdrun.types import Batch, Outputs

from .golden_cases import case, close, matches

CASES = {"b8c10": (2.0, 3.0, 4.0, 5.0, 6.0), "b8c10_T4": (4.0,), "hand": (1.0,)}


@pytest.mark.parametrize("name", ["b8c10", "b1c10", "b4c2", "b8c10_T4", "hand"])
def test_golden(name: str) -> None:
    tensors = case("mlkd", name)
    temperatures = CASES.get(name, CASES["b8c10"])
    student, teacher = tensors["student.logits"], tensors["teacher.logits"]
    parts = torch.stack([levels(student, teacher, temperature) for temperature in temperatures])
    for column, key in enumerate(("instance", "batch", "class")):
        close(parts[:, column], tensors[f"out.{key}_per_T"])
    matches(
        tensors, MLKD(temperatures)(Outputs(student), Outputs(teacher), Batch(student, tensors["target"]))
    )


@pytest.mark.parametrize("name", ["author_b8c10", "author_b7c11"])
def test_golden_of_two_views(name: str) -> None:
    # The authors' masks scale whole sums, and T=2 and T=6 are taken from the weak view twice
    tensors, temperatures = case("mlkd", name), (4.0, 3.0, 5.0, 2.0, 6.0)
    views = [
        (tensors[f"student.{view}"], tensors[f"teacher.{view}"]) for view in ("logits_weak", "logits_strong")
    ]
    weak, strong = (
        torch.stack([levels(*view, temperature) for temperature in temperatures]) for view in views
    )
    images, classes = tensors["out.sample_mask_fraction"], tensors["out.class_mask_fraction"]
    parts = {
        "ce": 0.1 * sum(cross_entropy(student, tensors["target"]) for student, _ in views),
        "kd": 0.9 * (images * weak[:, 0].sum() + strong[:3, 0].sum() + weak[3:, 0].sum()),
        "bc": 0.9 * images * weak[:, 1].sum(),
        "cc": 0.9 * classes * weak[:, 2].sum(),
    }
    for part, found in parts.items():
        close(found, tensors[f"loss.{part}"])
    matches(tensors, torch.stack(list(parts.values())).sum())


def test_by_hand() -> None:
    # P_t = [[3,1],[1,3]]/4, P_s = [[2,2],[3,1]]/4 at T=1
    student = torch.tensor([[2.0, 2.0], [3.0, 1.0]]).log()
    teacher = torch.tensor([[3.0, 1.0], [1.0, 3.0]]).log()
    images = ((0.75 * math.log(1.5) + 0.25 * math.log(0.5)) + 0.5 * math.log(3)) / 2
    torch.testing.assert_close(levels(student, teacher, 1.0), torch.tensor([images, 3 / 128, 9 / 128]))


def test_zero_where_equal_whatever_the_shift() -> None:
    student = torch.randn(6, 10, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert levels(student, student + 2, 3.0).abs().max() < 1e-14


def test_refusals() -> None:
    with pytest.raises(KdrunError, match="temperatures=0: must be above 0"):
        MLKD([2.0, 0])
    with pytest.raises(KdrunError, match="at least one is needed"):
        MLKD([])
