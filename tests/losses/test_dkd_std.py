from __future__ import annotations

import math

import pytest
import torch

from kdrun.losses.dkd import decoupled
from kdrun.losses.dkd_std import StandardisedDKD
from kdrun.losses.kd_std import standardise
from kdrun.types import Batch, Outputs

from .golden_cases import case, close, matches

CASES = {"dkd_b8c10": (1.0, 8.0), "dkd_b1c10": (1.0, 8.0), "dkd_b8c10_w9": (9.0, 72.0)}


@pytest.mark.parametrize("name", CASES)
def test_golden(name: str) -> None:
    tensors = case("logit_std", name)
    alpha, beta = CASES[name]
    ours, theirs = standardise(tensors["student.logits"]), standardise(tensors["teacher.logits"])
    parts = decoupled(ours, theirs, tensors["target"], 2.0)
    close(parts.target, tensors["loss.tckd"])
    close(parts.others, tensors["loss.nckd"])
    loss = StandardisedDKD(alpha, beta)
    batch = Batch(torch.zeros(1), tensors["target"])
    matches(tensors, loss(Outputs(tensors["student.logits"]), Outputs(tensors["teacher.logits"]), batch))


def test_by_hand_and_scale() -> None:
    # Two classes: nothing among the others, and the target part is that of the standardised soft targets
    student, teacher = torch.tensor([[0.0, 5.0]]), torch.tensor([[3.0, 2.0]])
    batch = Batch(student, torch.tensor([1]))
    loss = StandardisedDKD(temperature=1.0)(Outputs(student), Outputs(teacher), batch)
    assert loss.item() == pytest.approx(math.sqrt(2) * math.tanh(math.sqrt(0.5)), rel=1e-5)
    scaled = StandardisedDKD(temperature=1.0)(Outputs(9 * student), Outputs(teacher + 5), batch)
    assert scaled.item() == pytest.approx(loss.item(), rel=1e-5)
