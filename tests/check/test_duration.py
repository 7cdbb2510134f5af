"""Estimates of training time: what is measured, and what follows from another pair."""

from __future__ import annotations

from typing import Any

import pytest

from kdrun.check import duration
from kdrun.check.measure import FirstStep
from kdrun.plan.plan import Plan, make_plan
from tests.config.composed import composed


def made(line: str) -> Plan:
    return make_plan(composed(f"dataset=fake dataset.size=8 student=cnn_digits_small {line}").run)


def test_a_method_is_measured_on_one_pair_and_scaled_to_the_others(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def step(training: Any, *teachers: Any) -> FirstStep:
        asked.append((training.kind, training.phases))
        large, more = "medium" not in training.teachers[0].folder.name, len(training.phases[0].loss) - 2
        return FirstStep((), (10.0 if large else 1.0) + 2 * more, 0.0, 0, 0, 0)

    monkeypatch.setattr(duration, "first_step", step)
    measured, steps = duration.Measured(), {}
    for teacher in ("cnn_digits_medium", "cnn_digits"):
        for more in ("", "+loss@loss.sp=sp"):
            plan = made(f"teacher={teacher} {more} outputs_dir={tmp_path}")
            steps[teacher, more] = measured.step_of(plan.student).seconds
    assert len(asked) == 3 and steps["cnn_digits", ""] == 10.0
    assert steps["cnn_digits", "+loss@loss.sp=sp"] == pytest.approx(30.0)
