"""A control that has labels which the student has not: each place that compares the two says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kdrun.export.card import _gain as on_the_card
from kdrun.report import ranked_plot, sweep_files, sweep_table
from kdrun.report.markdown import markdown
from kdrun.report.runs import record
from kdrun.report.runs_text import block
from kdrun.report.schema import Report
from kdrun.report.table import text
from kdrun.report.verdict import tone, verdict
from tests.report.example import example, job

BOUND = "the jointly trained upper bound"


def below(**distillation: Any) -> Report:
    found = example()
    del found["distillation"]["unlabelled"]
    found["distillation"] |= distillation  # type: ignore[typeddict-item]
    found["comparison"] = {"gain_top1": -8.5, "gain_interval": [-10.5, -6.5], "mcnemar_p": 0.0001}
    found["comparison"]["verdict"] = "worse"
    return found


def joint() -> Report:
    return below(labels_unread=600, taught_apart=True)


def test_a_run_says_what_it_was_compared_with() -> None:
    assert verdict(joint()) == (
        "The distilled student is 8.5 points below the jointly trained upper bound (95 % interval -10.5 to "
        "-6.5, over the test images only: one seed)."
    )
    assert BOUND in " ".join(text(joint()).split())
    page = markdown(joint())
    assert f"The gain over {BOUND}, the same student trained on the labels of all classes at once, is" in page
    assert "loses" not in page and "loses" not in text(joint())
    assert f"Gain over {BOUND}:" in "".join(on_the_card(joint()))
    assert tone(joint()) != "worse"


def test_a_student_that_is_not_told_apart_from_it_or_is_above_it() -> None:
    report = joint()
    report["comparison"] |= {"gain_top1": -0.3, "verdict": "no measurable difference"}
    assert verdict(report).startswith(
        f"No measurable difference: the distilled student is 0.3 points below {BOUND}"
    )
    report["comparison"] |= {"gain_top1": 2.0, "verdict": "better"}
    assert verdict(report).startswith(f"The distilled student is 2.0 points above {BOUND} (")


def test_the_strongest_of_several_is_one_of_the_upper_bounds() -> None:
    report = joint()
    report["comparison"] |= {"control": "control_longer", "controls": {"control": {}, "control_longer": {}}}
    report["comparison"]["chosen_by"] = "validation"
    assert "below the strongest of 2 jointly trained upper bounds on validation, longer (" in verdict(report)


def test_labels_that_a_student_of_whole_teachers_does_not_read_are_named() -> None:
    said = "over the test images only: one seed); the control learned from 60 labels, the student from none."
    assert verdict(below(labels_unread=60)).endswith(said)
    taught = below(labels_unread=60)
    taught["comparison"]["control"] = "control_self"
    assert "from none" not in verdict(taught)


def test_a_list_of_runs_does_not_call_it_worse() -> None:
    known = record(Path("run"), joint())
    assert known["verdict"] == "worse" and "below its bound" in block([known], [], 100)


@pytest.mark.parametrize("seeds", [1, 3])
def test_a_sweep_says_it(seeds: int) -> None:
    jobs = [job({"seed": seed}, -8.5 + 0.1 * seed, 90.0, seed) for seed in range(seeds)]
    for each in jobs:
        each["report"]["distillation"] |= {"labels_unread": 600, "taught_apart": True}
    screen = " ".join(sweep_table.text(jobs, 80).split())
    page = sweep_files.markdown(jobs)
    for shown in (screen, page):
        assert "(jointly trained on all labels: an upper bound)" in shown
        assert f"Against {BOUND} on test: " in shown and f"points below {BOUND}" in shown
        assert "LOSES" not in shown
    if seeds > 1:
        assert f"Against {BOUND} on test: below it: -8.9 points (95 % interval" in screen


def test_a_sweep_of_a_student_that_reads_no_label_says_it() -> None:
    jobs = [job({"seed": 0}, 1.0, 87.0, 0)]
    jobs[0]["report"]["distillation"]["labels_unread"] = 60
    assert "control 87.0 % (it learned from labels, the student from none)" in sweep_table.text(jobs, 80)


def test_the_title_of_the_ranked_plot_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = [
        job({"method": m, "seed": s}, g + s, 90.0, s) for m, g in (("kd", -8.5), ("at", -3)) for s in (0, 1)
    ]
    for each in jobs:
        each["report"]["distillation"] |= {"labels_unread": 600, "taught_apart": True}
    drawn = []
    monkeypatch.setattr(ranked_plot, "save", lambda figure, path: drawn.append(figure))
    ranked_plot.ranked(tmp_path / "ranked.png", jobs)
    (figure,) = drawn
    figure.draw_without_rendering()
    assert figure._suptitle.get_window_extent().x1 <= figure.bbox.x1
