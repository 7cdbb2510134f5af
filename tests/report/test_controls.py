"""What a report says of several controls."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from kdrun.report import controls_sweep, sweep_files, sweep_table
from kdrun.report.caption import caption
from kdrun.report.content import problems
from kdrun.report.earlier import with_earlier
from kdrun.report.markdown import controls_of, markdown
from kdrun.report.schema import Report, called, roles
from kdrun.report.statistics import compare
from kdrun.report.sweeps import figure, settings
from kdrun.report.table import text
from kdrun.report.verdict import verdict

from .example import example, scores


def several(**comparison: Any) -> Report:
    """The example with `smoothed` and `self`, which is the strongest on validation."""
    report: Any = copy.deepcopy(example())
    for role, validation, test in (("control_self", 90.0, 88.0), ("control_smoothed", 88.0, 89.5)):
        own = copy.deepcopy(report["models"]["control"])
        own["last"] = {"validation": scores(197, validation, 0.5, 3.0), "test": scores(1000, test, 0.5, 3.0)}
        report["models"][role] = own | {"fingerprint": role}
    gain = {"gain_top1": 2.6, "gain_interval": [0.8, 4.4], "mcnemar_p": 0.004, "verdict": "better"}
    every = {role: gain for role in ("control", "control_smoothed", "control_self")}
    report["comparison"] |= gain | {"control": "control_self", "chosen_by": "validation", "controls": every}
    report["comparison"] |= comparison
    report["config"]["controls"] = {"smoothing": 0.1}
    return report  # type: ignore[no-any-return]


def test_roles_stand_in_the_order_of_the_choices() -> None:
    assert problems(several()) == []
    assert roles(several()) == ("teacher", "student", "control", "control_smoothed", "control_self")
    assert [called(several(), role) for role in roles(several())[2:]] == ["plain", "smoothed", "self"]
    assert called(example(), "control") == "control"


@pytest.mark.parametrize("width", [80, 120])
def test_each_has_its_column(width: int) -> None:
    shown = text(several(), width)
    assert all(len(line) <= width for line in shown.splitlines())
    assert all(name in shown for name in ("plain", "smoothed", "self")) and "assistant" not in shown
    assert "cnn_digits_small (student, plain, smoothed, self) on digits_few" in caption(several())[0]


def test_the_verdict_says_which_control_it_is_about() -> None:
    said = verdict(several())
    assert "beats the strongest of its 3 controls on validation, self, by 2.6 points (95 %" in said
    assert "unlabelled" not in said, "this control learned from the images without labels too"
    first = several(chosen_by="order", control="control")
    assert "the first of its 3 controls, plain, as no validation images could choose one, by" in verdict(
        first
    )
    one = several(control="control_smoothed", controls={})
    assert "beats its control, smoothed, by 2.6 points" in verdict(one)
    near = several(gain_top1=0.0, verdict="no measurable difference", gain_interval=[-1.0, 1.0])
    assert "scores the same as the strongest of its 3 controls on validation, self (95 %" in verdict(near)


def test_the_page_has_a_line_for_each() -> None:
    assert controls_of(example()) == []
    page = markdown(several(), plots=[])
    assert (
        "| smoothed | plain, with label smoothing 0.1 | 88.0 | 89.5 | +2.6 | +0.8 to +4.4 | 0.004 | better |"
        in page
    )
    assert "Holm's correction over 3 controls" in page and "- The gain over the strongest of its 3" in page
    assert "the same student trained without the teacher" in markdown(example(), plots=[])


def test_a_sweep_counts_the_gain_over_the_strongest() -> None:
    assert figure(several(), "control", "test") == 88.0
    assert figure(several(), "gain", "test") == pytest.approx(90.6 - 88.0)
    assert figure(example(), "gain", "test") == pytest.approx(90.6 - 86.8)


def test_a_gain_over_other_controls_is_not_mixed_with_an_earlier_one() -> None:
    new, old = example(), several(gap_closed=70.0)
    for report in (new, old):
        for role in ("teacher", "student", "control"):
            report["models"][role]["fingerprint"] = role
    del new["comparison"]["gap_closed"]
    merged = with_earlier(new, old)
    assert set(merged["models"]) == set(old["models"])
    assert merged["comparison"]["gain_top1"] == new["comparison"]["gain_top1"]
    assert not merged["comparison"].keys() & {"control", "controls", "chosen_by", "gap_closed"}


@pytest.mark.parametrize("width", [60, 80])
def test_columns_that_do_not_fit_beside_each_other_are_below_one_another(width: int) -> None:
    report = several()
    for name in ("control_teacher_free", "control_longer"):
        report["models"][name] = copy.deepcopy(report["models"]["control"])
        report["comparison"]["controls"][name] = report["comparison"]["controls"]["control"]
    report["models"]["teacher"]["params"] = 1_234_567_890
    page = text(report, width)
    assert max(map(len, page.splitlines())) <= width and "1,234,567,890" in page
    for name in ("student", "plain", "smoothed", "teacher_free", "self", "longer"):
        assert sum(name in line.split() for line in page.split("The distilled")[0].splitlines()[4:]) == 1
    assert page.count("top-1 test") > 1 and page.count("agreement") == 1


def seeded(controls: int = 3) -> list[dict[str, Any]]:
    """Three seeds of `several`, whose students have 0, 1 and 2 points more on test; the last failed."""
    jobs: list[dict[str, Any]] = []
    for seed in range(3):
        report: Any = several() if controls > 1 else copy.deepcopy(example())
        report["models"]["student"]["last"]["test"]["top1"] += seed
        jobs.append({"overrides": {"seed": seed}, "report": report, "error": None, "folder": f"runs/{seed}"})
    return [*jobs, {"overrides": {"seed": 3}, "report": None, "error": "no", "folder": "runs/3"}]


def test_a_sweep_shows_the_student_against_each_control() -> None:
    (setting,) = settings(seeded())
    student, plain = (example()["models"][role]["last"]["test"]["top1"] for role in ("student", "control"))
    smoothed = next(row for row in controls_sweep.rows(setting) if row[0] == "smoothed")
    assert [row[0] for row in controls_sweep.rows(setting)] == ["plain", "smoothed", "self"]
    assert smoothed[1:5] == ("88.0 +- 0.0", "89.5 +- 0.0", f"{student + 1 - 89.5:+.1f} +- 1.0", "3 of 3")
    raw = compare([student + seed - 89.5 for seed in range(3)]).p
    assert raw is not None and float(smoothed[5]) >= round(raw, 3), "Holm's correction lowers no p"
    kept = json.loads(sweep_files.json_text(seeded()))[0]["controls"]
    assert kept["plain"]["gain"] == {"mean": pytest.approx(student + 1 - plain), "std": 1.0, "n": 3}
    for width in (80, 120):
        shown = sweep_table.text(seeded(), width)
        assert "Against each control: top-1 in %" in shown and max(map(len, shown.splitlines())) <= width
        words = " ".join(shown.split())
        assert "(of each run the strongest on validation)" in words
        assert "Against the strongest control of each run on test:" in words
    page = sweep_files.markdown(seeded())
    assert "| smoothed | 88.0 +- 0.0 |" in page and "| p | verdict |" in page


def test_one_empty_line_stands_between_the_tables_of_settings() -> None:
    jobs = [
        {**job, "overrides": {**job["overrides"], "alpha": alpha}} for alpha in (0.5, 0.9) for job in seeded()
    ]
    shown = sweep_table.text(jobs, 80)
    assert shown.count("\n\nAgainst each control") == 2 and "\n\n\n" not in shown


def test_a_sweep_with_one_control_has_no_such_table() -> None:
    shown = sweep_table.text(seeded(1)) + sweep_files.markdown(seeded(1))
    assert "Against each control" not in shown and "strongest" not in shown
    assert "controls" not in json.loads(sweep_files.json_text(seeded(1)))[0]
