"""Estimates of training time: what is measured, and what follows from another pair."""

from __future__ import annotations

import os
from typing import Any

import pytest

from kdrun.check import duration
from kdrun.check.measure import FirstStep, Pace
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
        return FirstStep((), Pace((10.0 if large else 1.0) + 2 * more, 0.0), 0, 0, 0)

    monkeypatch.setattr(duration, "first_step", step)
    paces, steps = duration.Paces(), {}
    for teacher in ("cnn_digits_medium", "cnn_digits"):
        for more in ("", "+loss@loss.sp=sp"):
            plan = made(f"teacher={teacher} {more} outputs_dir={tmp_path}")
            steps[teacher, more] = paces.of_student(plan.student).seconds
    assert len(asked) == 3 and steps["cnn_digits", ""] == 10.0
    assert steps["cnn_digits", "+loss@loss.sp=sp"] == pytest.approx(30.0)


def test_what_was_measured_is_kept_for_later_calls(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def step(training: Any, *teachers: Any) -> FirstStep:
        asked.append(training.seed)
        return FirstStep((), Pace(1.0 + len(asked), 0.5), 0, 0, 0)

    monkeypatch.setattr(duration, "first_step", step)
    file, plans = tmp_path / "tables" / "paces.json", [made(f"seed={seed}") for seed in (0, 1)]
    first = duration.Paces(file).of(plans[0].student)
    assert duration.Paces(file).of(plans[1].student) == first == Pace(2.0, 0.5)
    assert duration.Paces(file, fresh=True).of(plans[0].student).seconds == 3.0
    assert duration.Paces(file).of(plans[0].control or plans[0].student).seconds == 4.0
    assert duration.Paces(file).of(made("student.args.widths=[8,16]").student).seconds == 5.0
    assert duration.Paces(file).of(made("recipe.student.batch=16").student).seconds == 6.0
    assert len(duration.Paces(file).known) == 4, "fresh=true forgets nothing of other trainings"
    wrong = (
        "[1]",
        "[0, 0]",
        "[NaN, 0]",
        "[1, Infinity]",
        "[-1, 0]",
        f"[1{'0' * 400}, 0]",
        "[1]" * 2,
        "[" * 99999,
    )
    for damaged in ("", "[1]", '{"a": 3}', '{"a": [1, "x"]}', *(f'{{"a": {pace}}}' for pace in wrong)):
        file.write_text(damaged)
        assert duration.Paces(file).known == {}
    assert len(asked) == 5
    file.unlink()
    os.mkfifo(file)
    assert duration.Paces(file).known == {}
