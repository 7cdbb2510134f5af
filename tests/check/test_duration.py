"""Estimates of training time: what is measured, and what follows from another pair."""

from __future__ import annotations

import json
import os
import sys
from itertools import count
from typing import Any

import pytest

from kdrun import __version__
from kdrun.artefacts import fingerprint
from kdrun.check import duration
from kdrun.check.measure import FirstStep, StepPace
from kdrun.machine import environment
from kdrun.plan.plan import Plan, make_plan
from tests.config.composed import composed
from tests.conftest import forget


def made(line: str) -> Plan:
    return make_plan(composed(f"dataset=fake dataset.size=8 student=cnn_digits_small {line}").run)


def test_a_method_is_measured_on_one_pair_and_scaled_to_the_others(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def step(training: Any, *teachers: Any) -> FirstStep:
        asked.append((training.kind, training.phases))
        large, more = "medium" not in training.teachers[0].folder.name, len(training.phases[0].loss) - 2
        return FirstStep((), StepPace((10.0 if large else 1.0) + 2 * more, 0.0), 0, 0, 0)

    monkeypatch.setattr(duration, "first_step", step)
    paces, steps = duration.Paces(), {}
    for teacher in ("cnn_digits_medium", "cnn_digits"):
        for more in ("", "+loss@loss.sp=sp"):
            plan = made(f"teacher={teacher} {more} outputs_dir={tmp_path}")
            steps[teacher, more] = paces.of_student(plan.student).seconds
    assert len(asked) == 3 and steps["cnn_digits", ""] == 10.0
    assert steps["cnn_digits", "+loss@loss.sp=sp"] == pytest.approx(30.0)


def counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each measurement gives another time: 1 s, 2 s, ..."""
    times = count(1)
    monkeypatch.setattr(
        duration, "first_step", lambda *given: FirstStep((), StepPace(float(next(times)), 0.5), 0, 0, 0)
    )


@pytest.mark.parametrize("setting", ["runtime.compile=true", "runtime.graph=off", "runtime.sync_bn=true"])
def test_other_settings_of_the_runtime_are_measured_anew(
    setting: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted(monkeypatch)
    paces = duration.Paces(tmp_path / "paces.json")
    usual, other = made("").student, made(setting).student
    assert [paces.of(each).seconds for each in (usual, other, usual)] == [1.0, 2.0, 1.0]
    students = [made(f"outputs_dir={tmp_path}").student, made(f"{setting} seed=1").student]
    both = duration.of_each(students, duration.Paces())
    assert len({round(seconds) for seconds in both.values()}) == 2, "also within a call"


def test_an_edited_loss_of_ones_own_is_measured_anew(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    counted(monkeypatch)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # Python tells versions of a second apart by size
    text = "from kdrun.losses.logits_mse import LogitsMSE\n\n\nclass Near(LogitsMSE):\n    pass\n"
    (tmp_path / "mine").mkdir()
    paces, seconds = duration.Paces(tmp_path / "paces.json"), []
    for more in ("", "# the same, slower\n", "# the same, slower\n"):
        (tmp_path / "mine" / "near.py").write_text(text + more)
        forget()
        seconds.append(paces.of(made("packages=[mine] '+loss.near={name: mine.near}'").student).seconds)
    assert seconds == [1.0, 2.0, 2.0]


def test_what_an_earlier_version_measured_as_usual_still_counts(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The key of a training without such settings has not changed."""
    counted(monkeypatch)
    student = made("").student
    versions = [__version__, environment(student.ground.machine, student.threads)]
    models = [each.key["model"] for each in (student, *student.teachers)]
    about = [student.label, student.kind, repr(student.recipe), repr(student.phases)]
    earlier = fingerprint([versions, models, about, student.ground.data.image_shape])
    (tmp_path / "paces.json").write_text(json.dumps({earlier: [7.0, 0.5]}))
    assert duration.Paces(tmp_path / "paces.json").of(student).seconds == 7.0


def test_what_was_measured_is_kept_for_later_calls(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def step(training: Any, *teachers: Any) -> FirstStep:
        asked.append(training.seed)
        return FirstStep((), StepPace(1.0 + len(asked), 0.5), 0, 0, 0)

    monkeypatch.setattr(duration, "first_step", step)
    file, plans = tmp_path / "tables" / "paces.json", [made(f"seed={seed}") for seed in (0, 1)]
    first = duration.Paces(file).of(plans[0].student)
    assert duration.Paces(file).of(plans[1].student) == first == StepPace(2.0, 0.5)
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
