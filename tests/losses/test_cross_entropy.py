from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from kdrun.losses.cross_entropy import cross_entropy

from .golden_cases import case, close

LOGITS = torch.randn(6, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
LABELS = torch.tensor([0, 4, 2, 2, 1, 3])


@pytest.mark.parametrize("name", ["b8c10_mix", "hand_mix"])
def test_golden(name: str) -> None:
    tensors = case("kd", name)
    close(cross_entropy(tensors["student.logits"], tensors["target"]), tensors["loss.ce"])


def test_by_hand() -> None:
    # p = 1/2 for the first label, 1/4 for the second: (ln 2 + ln 4) / 2
    logits = torch.tensor([[1.0, 1.0], [3.0, 1.0]]).log()
    assert cross_entropy(logits, torch.tensor([0, 1])).mean().item() == pytest.approx(1.5 * math.log(2))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_is_torchs_own_for_the_labelled_rows_and_zero_for_the_others(smoothing: float) -> None:
    masked = torch.tensor([0, -1, 2, -1, 1, -1])
    kept = masked >= 0
    rows = cross_entropy(LOGITS, masked, smoothing)
    expected = F.cross_entropy(LOGITS[kept], LABELS[kept], label_smoothing=smoothing, reduction="none")
    close(rows[kept], expected, 1e-14)
    assert not rows[~kept].any()


def test_logit_shift_changes_nothing() -> None:
    close(cross_entropy(LOGITS + 7, LABELS), cross_entropy(LOGITS, LABELS), 1e-14)
