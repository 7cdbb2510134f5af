from __future__ import annotations

import math

import pytest
import torch

from kdrun.losses.vid import Predictor, vid

from .golden_cases import case, close, matches, names, run


@pytest.mark.parametrize("name", names("vid"))
def test_golden(name: str) -> None:
    tensors = case("vid", name)
    student, teacher = tensors["student.f"], tensors["teacher.f"]
    predictor = Predictor(student.shape[1], teacher.shape[1], 5.0)
    matches(tensors, run(predictor, tensors, {"": "param."}, student, teacher))


def test_by_hand() -> None:
    # Variance 5, off by 2: (4 / 5 + ln 5) / 2
    scale = next(p for n, p in Predictor(2, 2, 5.0).named_parameters() if n == "log_scale")
    loss = vid(torch.zeros(1, 2, 2, 2), scale, torch.full((1, 2, 2, 2), 2.0))
    assert loss.item() == pytest.approx((0.8 + math.log(5)) / 2, rel=1e-6)


def test_only_the_difference_counts_and_large_scales_are_finite() -> None:
    mean, teacher = torch.randn(
        2, 3, 2, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    scale = torch.tensor([0.0, 1.0], dtype=torch.float64)
    close(vid(mean + 2, scale, teacher + 2), vid(mean, scale, teacher), 1e-12)
    assert vid(mean.float(), torch.tensor([200.0, -200.0]), teacher.float()).isfinite().all()
