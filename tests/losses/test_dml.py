from __future__ import annotations

import math

import pytest
import torch

from kdrun.losses.dml import DML
from kdrun.losses.mix import make_mix
from kdrun.types import Batch, Outputs

from .golden_cases import case, matches

BATCH = Batch(torch.zeros(1, 1, 1, 1), torch.zeros(1, dtype=torch.int64))


@pytest.mark.parametrize(("name", "temperature"), [("b8c10_T1", 1.0), ("hand", 1.0), ("b8c10", 4.0)])
def test_golden(name: str, temperature: float) -> None:
    tensors = case("kd", name)
    student, peer = Outputs(tensors["student.logits"]), Outputs(tensors["teacher.logits"])
    matches(tensors, DML(temperature)(student, peer, BATCH))


def test_by_hand() -> None:
    # peer (1/4, 3/4), student (1/2, 1/2): .25 ln .5 + .75 ln 1.5
    peer = Outputs(torch.tensor([[1.0, 3.0]]).log())
    expected = 0.25 * math.log(0.5) + 0.75 * math.log(1.5)
    assert DML()(Outputs(torch.zeros(1, 2)), peer, BATCH).item() == pytest.approx(expected)


def test_equation() -> None:
    mix = make_mix({"hard": {"name": "cross_entropy"}, "peer": {"name": "dml"}})
    assert mix.equation() == "CE + KL(peer || student)"
    assert DML(2.0).formula() == "2^2 KL(peer || student, T=2)"
