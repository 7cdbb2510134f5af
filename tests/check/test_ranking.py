"""`kdrun check -m teacher=a,b,c`: ranks on validation, and names what is not trained yet."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kdrun.check.ranking import ranking
from kdrun.cli import main
from kdrun.data.images import Part
from kdrun.errors import KdrunError
from kdrun.plan.plan import Plan, make_plan
from kdrun.report import soft
from tests.config.composed import composed
from tests.stages.runs import SHORT

KEYS = ("student=cnn_digits_small", *SHORT)


def planned(folder: Path, *words: str) -> Plan:
    return make_plan(composed(" ".join((*KEYS, *words, f"outputs_dir={folder}"))).run)


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of one teacher, and another teacher by itself, which is trained for longer."""
    folder = tmp_path_factory.mktemp("ranking")
    first, second = ["teacher=cnn_digits_small", "control=false"], ["teacher=cnn_digits", "stages=[teacher]"]
    for words in (first, second):
        assert main([*KEYS, *words, f"outputs_dir={folder}"]) == 0
    return folder


def lines(folder: Path, capsys: pytest.CaptureFixture[str], *words: str) -> list[str]:
    capsys.readouterr()
    assert main(["check", "-m", *KEYS, *words, f"outputs_dir={folder}"]) == 0
    return capsys.readouterr().out.splitlines()


def test_trained_ones_are_ranked_and_the_others_named(outputs: Path, capsys: Any) -> None:
    before = sorted(outputs.rglob("*"))
    shown = lines(outputs, capsys, "teacher=cnn_digits_small,cnn_digits,cnn_digits_medium")
    text = " ".join(" ".join(shown).split())
    assert sorted(outputs.rglob("*")) == before
    rows = [line.replace("*", " ").split() for line in shown if "cnn_digits" in line and "." in line]
    table = [row for row in rows if row[0] in ("cnn_digits", "cnn_digits_small")]
    accuracies = [float(row[-5]) for row in table]
    assert len(table) == 2 and accuracies == sorted(accuracies, reverse=True)
    assert "not trained yet: cnn_digits_medium (9.97 k parameters" in text
    command = text.partition("to train here: ")[2].partition("'stages=[teacher]'")[0]
    assert all(word in command for word in (*KEYS, "teacher=cnn_digits_medium", f"outputs_dir={outputs}"))
    assert "no test image is used" in text and "docs/which_teacher.md" in text
    folder = planned(outputs, "teacher=cnn_digits_small").student.folder
    report = json.loads((folder / "report.json").read_text())
    kept = report["models"]["teacher"]["last"]["validation"]
    own = next(row for row in table if row[0] == "cnn_digits_small")
    assert (own[-5], own[-3]) == (f"{kept['top1']:.1f}", f"{kept['ece']:.1f}")


def test_the_test_part_is_never_read(outputs: Path) -> None:
    """With test images that cannot be indexed, and labels that are all wrong, nothing changes."""

    class Closed:
        shape = (1000, 1, 8, 8)

    plans = {name: planned(outputs, f"teacher={name}") for name in ("cnn_digits", "cnn_digits_small")}
    closed = {}
    for name, plan in plans.items():
        data = plan.ground.data._replace(test=Part(Closed(), torch.zeros(0, dtype=torch.int64)))  # type: ignore[arg-type]
        ground = replace(plan.ground, data=data)
        trainings = tuple(replace(training, ground=ground) for training in plan.trainings)
        trainings = tuple(replace(t, teachers=trainings[:1]) if t.name == "student" else t for t in trainings)
        closed[name] = replace(plan, ground=ground, trainings=trainings)
    assert ranking(closed, dict.fromkeys(closed, ""), 100) == ranking(plans, dict.fromkeys(plans, ""), 100)


def test_figures_of_soft_targets_by_hand() -> None:
    logits = np.array([[2.0, 0.0, -50.0], [0.0, 5.0, -50.0]])
    assert soft.first_to_second(logits, 2.0) == pytest.approx(math.exp((2 + 5) / 2 / 2))
    shares = soft.softened(logits, 2.0)
    assert soft.first_to_second(logits + 7, 2.0) == pytest.approx(
        math.exp(np.log(shares.max(1) / np.sort(shares)[:, 1]).mean())
    )


def test_refusals(outputs: Path, capsys: Any) -> None:
    with pytest.raises(KdrunError, match="never on test images"):
        ranking({"a": planned(outputs, "dataset.validation=0")}, {}, 80)
    with pytest.raises(KdrunError, match="no teacher to rank"):
        ranking({"a": planned(outputs, "method=dml")}, {}, 80)
    with pytest.raises(KdrunError, match="one by one"):
        ranking({"a": planned(outputs, "teacher=[cnn_digits,cnn_digits_small]")}, {}, 80)
    assert main(["check", "-m", "temperature=1,2"]) == 2
    assert "check -m ranks teachers" in capsys.readouterr().err
