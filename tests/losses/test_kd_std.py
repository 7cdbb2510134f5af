from __future__ import annotations

import math

import pytest
import torch

from kdrun.losses.kd_std import StandardisedSoftTargets, standardise
from kdrun.losses.soft_targets import soft_targets
from kdrun.types import Batch, Outputs

from .golden_cases import case, close, matches

CASES = {"kd_b8c10": 2.0, "kd_b1c10": 2.0, "kd_b4c2": 2.0, "kd_b8c10_T4": 4.0, "kd_hand": 1.0}


@pytest.mark.parametrize("name", CASES)
def test_golden(name: str) -> None:
    tensors = case("logit_std", name)
    ours, theirs = standardise(tensors["student.logits"]), standardise(tensors["teacher.logits"])
    matches(tensors, soft_targets(ours, theirs, CASES[name]))


def test_golden_within_two_views() -> None:
    # The authors of mlkd mask half of the images by scaling, and take T=2 and T=6 from the weak view
    tensors, temperatures = case("logit_std", "mlkd_author_b8c10"), (2.0, 3.0, 5.0, 2.0, 6.0)
    weak, strong = (
        [
            soft_targets(standardise(tensors[f"student.{view}"]), standardise(tensors[f"teacher.{view}"]), t)
            for t in temperatures
        ]
        for view in ("logits_weak", "logits_strong")
    )
    close(9 * (sum(weak) / 2 + sum(strong[:3]) + sum(weak[3:])), tensors["loss.kd"])


def test_golden_constant_row() -> None:
    tensors = case("logit_std", "kd_constant_row")
    ours, theirs = standardise(tensors["student.logits"]), standardise(tensors["teacher.logits"])
    close(soft_targets(ours, theirs, 2.0), tensors["loss"])


def test_by_hand() -> None:
    # Two classes become +-1/sqrt 2; of opposite signs: (2a - 1) sqrt 2, a = 1 / (1 + e^-sqrt 2)
    a = 1 / (1 + math.exp(-math.sqrt(2)))
    student, teacher = torch.tensor([[0.0, 5.0]]), torch.tensor([[3.0, 2.0]])
    loss = StandardisedSoftTargets(1.0)(Outputs(student), Outputs(teacher), Batch(student, torch.tensor([0])))
    assert loss.item() == pytest.approx((2 * a - 1) * math.sqrt(2), rel=1e-5)


def test_shift_and_scale_change_nothing() -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 6, 10, generator=generator, dtype=torch.float64)
    expected = soft_targets(standardise(student), standardise(teacher), 2.0)
    close(soft_targets(standardise(4 * student + 7), standardise(teacher / 3 - 1), 2.0), expected, 1e-5)
