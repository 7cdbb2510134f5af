"""Figures in 8 bits as a table, in the verdict, on the page and over seeds."""

from __future__ import annotations

import copy
import itertools
import json
from typing import Any

import pytest

from kdrun.report import int8, int8_sweep, sweep_files, sweep_table
from kdrun.report.comparison import figures, keys
from kdrun.report.content import problems
from kdrun.report.earlier import with_earlier
from kdrun.report.markdown import markdown
from kdrun.report.schema import Report
from kdrun.report.sweeps import settings
from kdrun.report.table import text
from kdrun.report.verdict import verdict
from tests.report.example import example, job


def against(gain: float, low: float, high: float) -> Any:
    verdict = "better" if low > 0 else "worse" if high < 0 else "no measurable difference"
    return {"gain_top1": gain, "gain_interval": [low, high], "mcnemar_p": 0.01, "verdict": verdict}


def form(top1: float, change: float | None = None) -> dict[str, Any]:
    own: dict[str, Any] = {"top1": top1, "interval": [top1 - 2, top1 + 2], "validation": top1}
    if change is None:
        return own
    file = {"file": "int8/a.onnx", "bytes": 7000, "layers": 3, "in_integers": 3, "differ": 0.02}
    interval = {"change": change, "change_interval": [change - 1, change + 1]}
    return own | file | interval | {"other_class": 1, "verdict": "no measurable difference"}


def planted(fp32: Any = None, gain: Any = None, shift: float = 0.0) -> dict[str, Any]:
    before, now = fp32 or against(4.0, 2.0, 6.0), gain or against(3.5 + shift, 1.5, 5.5)
    return {
        "fingerprint": "abc",
        "bits": 7,
        "images": 512,
        "epochs": 16,
        "own_loss": True,
        "models": {
            "student": {
                "fp32": form(90.0),
                "ptq": form(88.0, -2.0),
                "labels": form(89.0, -1.0),
                "teacher": form(90.5 + shift, 0.5),
            },
            "control": {
                "fp32": form(86.0),
                "ptq": form(85.0, -1.0),
                "labels": form(87.0, 1.0),
                "teacher": form(88.0, 2.0),
            },
        },
        "gains": {
            "fp32": before,
            "ptq": against(3.0, 1.0, 5.0),
            "labels": against(2.0, -0.1, 4.0),
            "teacher": against(2.5 + shift, 0.5, 4.5),
        },
        "chosen": {"student": "teacher", "control": "labels"},
        "chosen_by": "validation",
        "gain": now,
        "change": now["gain_top1"] - before["gain_top1"],
        "change_interval": [-2.0, 1.0],
    }


def with_int8(**more: Any) -> Report:
    report = copy.deepcopy(example())
    report["int8"] = planted(**more)  # type: ignore[typeddict-item]
    return report


def test_the_table_has_a_row_for_each_form_and_fits() -> None:
    report = with_int8()
    assert not problems(report)
    lines = int8.lines(report, 80)
    assert [line.split("  ")[0] for line in lines[1:]] == [
        *("fp32", "int8 untrained", "int8 labels", "int8 teacher"),
    ]
    second = "int8 untrained  88.0  -3.0 to -1.0  85.0  -2.0 to 0.0  +3.0  +1.0 to +5.0"
    assert lines[2].split() == second.split()
    assert max(map(len, lines)) <= 80 and max(map(len, int8.lines(report, 60))) <= 60
    shown = text(report, 80)
    assert "int8 teacher" in shown and "int8" not in text(example(), 80)


GAINS = {"up": against(4.0, 2.0, 6.0), "none": against(0.5, -1.0, 2.0), "down": against(-3.0, -5.0, -1.0)}
CLAIMS = {
    ("up", "up"): "The gain of distillation survives int8",
    ("up", "none"): "The gain of distillation is not measurable any more in int8",
    ("up", "down"): "does not survive int8: the student is worse",
    ("none", "up"): "In fp32 distillation has no measurable gain, in int8 it gains",
    ("none", "none"): "no measurable gain, in int8 there is no measurable difference",
    ("none", "down"): "no measurable gain, in int8 it loses",
    ("down", "up"): "In fp32 distillation loses, in int8 it gains",
    ("down", "none"): "In fp32 distillation loses, in int8 there is no measurable difference",
    ("down", "down"): "In fp32 distillation loses, in int8 it loses",
}


@pytest.mark.parametrize(("before", "now"), list(itertools.product(GAINS, GAINS)))
def test_the_verdict_says_whether_the_gain_survives(before: str, now: str) -> None:
    said = verdict(with_int8(fp32=GAINS[before], gain=GAINS[now]))
    assert CLAIMS[before, now] in said
    assert "student (trained for int8 with the teacher) 90.5 %" in said
    assert "plain control (trained for int8 with labels) 87.0 %" in said and "within the noise" in said


def test_the_page_says_what_the_rows_and_files_are() -> None:
    page = markdown(with_int8())
    assert "## In 8 bits" in page and "| int8 teacher | 90.5 |" in page
    assert "| int8/a.onnx | 7.00 kB | 3 of 3 | 2.0e-02 | 1 |" in page
    assert "soft targets there" not in page and "16 more epochs" in page


def test_a_later_evaluation_without_it_keeps_it() -> None:
    plain, old, newer = example(), with_int8(), with_int8(shift=1.0)
    for report in (plain, old, newer):
        for role, model in report["models"].items():
            model["fingerprint"] = role
    assert with_earlier(plain, old)["int8"] == planted()
    assert with_earlier(newer, old)["int8"] == planted(shift=1.0)
    plain["models"]["student"]["fingerprint"] = "another"
    assert "int8" not in with_earlier(plain, old)


def test_seeds_give_means_and_a_test() -> None:
    jobs = [job({"seed": seed}, 4.0 + seed, seed=seed) for seed in range(3)]
    for seed, one in enumerate(jobs):
        one["report"]["int8"] = planted(shift=float(seed))
    (setting,) = settings(jobs)
    rows = int8_sweep.rows(setting)
    assert rows[0] == ("fp32", "90.0 +- 0.0", "86.0 +- 0.0", "+4.0 +- 0.0")
    assert rows[3] == ("int8 teacher", "91.5 +- 1.0", "88.0 +- 0.0", "+3.5 +- 1.0")
    (sentence,) = int8_sweep.sentences(setting)
    assert "on validation: BEATS: +4.5 points" in sentence and "over 3 seeds" in sentence
    assert "changes by +0.5 +- 1.0 points" in sentence
    shown = sweep_table.text(jobs, 80)
    assert "int8 teacher" in shown and sentence[:40] in shown and max(map(len, shown.splitlines())) <= 80
    assert "| int8 teacher | 91.5 +- 1.0 |" in sweep_files.markdown(jobs)
    (kept,) = json.loads(sweep_files.json_text(jobs))
    assert kept["int8"]["teacher"]["gain"] == {"mean": 3.5, "std": 1.0, "n": 3}
    del jobs[2]["report"]["int8"]
    for written in (sweep_table.text(jobs, 100), sweep_files.markdown(jobs)):
        assert "points, mean +- std of 2 seeds; 1 other job without int8" in written
    plain = [job({"seed": seed}, 4.0, seed=seed) for seed in range(3)]
    assert "int8" not in sweep_table.text(plain, 80) + sweep_files.json_text(plain)


def test_two_runs_are_compared_in_int8_too_and_without_their_engines() -> None:
    one, two = with_int8(), with_int8(shift=1.0)
    two["config"]["engine"] = {"name": "ray", "gpus": "auto"}
    assert list(figures(one, two)) == [("top-1 test %, student, int8 teacher", "90.5", "91.5")]
    assert not list(keys(one, two))
