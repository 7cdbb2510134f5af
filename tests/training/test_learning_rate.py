"""The learning rate is a pure function of the step, and the schedules are those that their names promise."""

from __future__ import annotations

import warnings
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from kdrun.training.learning_rate import learning_rate


def recipe(**values: Any) -> Any:
    plain = {"lr": 0.1, "milestones": [], "gamma": 0.1, "warmup": 0.0, "div": 25.0, "final_div": 1e4}
    return SimpleNamespace(**{**plain, **values})


def test_constant() -> None:
    assert {learning_rate(recipe(schedule="constant"), step, 10, 5) for step in range(10)} == {0.1}


def test_steps_fall_at_the_milestones() -> None:
    crd = recipe(schedule="step", lr=0.05, milestones=[150, 180, 210])
    rates = [learning_rate(crd, epoch * 10, 2400, 10) for epoch in (0, 149, 150, 179, 180, 210, 239)]
    assert rates == pytest.approx([0.05, 0.05, 0.005, 0.005, 5e-4, 5e-5, 5e-5])
    assert learning_rate(crd, 1499, 2400, 10) == pytest.approx(0.05)


def test_cosine_warms_up_and_ends_near_zero() -> None:
    rates = [learning_rate(recipe(schedule="cosine", warmup=0.1), step, 100, 10) for step in range(100)]
    assert rates[0] == pytest.approx(0.01) and rates[9] == pytest.approx(0.1) == max(rates)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert 0 < rates[-1] < 1e-4
    assert rates[55] == pytest.approx(0.05)


@pytest.mark.parametrize("steps", [20, 760])
def test_one_cycle_is_torchs(steps: int) -> None:
    parameter = torch.zeros(1, requires_grad=True)
    other = torch.optim.SGD([parameter], lr=1.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        other,
        max_lr=5e-3,
        total_steps=steps,
        pct_start=0.3,
        div_factor=25.0,
        final_div_factor=1e4,
        cycle_momentum=False,
    )
    one_cycle = recipe(schedule="onecycle", lr=5e-3, warmup=0.3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for step in range(steps):
            assert learning_rate(one_cycle, step, steps, 19) == pytest.approx(
                other.param_groups[0]["lr"], rel=1e-9
            )
            if step < steps - 1:
                schedule.step()


@pytest.mark.parametrize("schedule", ["constant", "step", "cosine", "onecycle"])
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_the_shortest_trainings_have_a_rate(schedule: str, steps: int) -> None:
    for warmup in (0.0, 0.3, 1.0):
        rates = [learning_rate(recipe(schedule=schedule, warmup=warmup), s, steps, 1) for s in range(steps)]
        assert all(0 <= rate <= 0.1 for rate in rates)
