from __future__ import annotations

import pytest

from kdrun.report.sweep_files import markdown
from kdrun.report.sweep_table import text
from tests.report.example import failed, grid, job

GRID = """\
gain over control on validation, points, mean +- std of up to 3 seeds
control 87.0 +- 1.0 %

                    alpha 0.5       alpha 0.9
temperature 1   * +3.0 +- 0.2     +1.0 +- 0.2
temperature 2   * +4.0 +- 0.2   * +4.5 +- 0.2
temperature 4     +5.0 +- 0.3          failed
* best student on validation, or at most one standard error below it (noise of 3
seeds and 197 validation images)
The setting chosen on validation (temperature 2, alpha 0.9) has 90.5 +- 1.2 % on
test, +4.0 +- 0.2 points over the control (better in 3 of 3)
On validation it shows 91.5 %. The choice of the best makes that about 1.8
points too high (3 seeds and 197 validation images; an upper bound).
Against the control on test: BEATS: +4.0 points (95 % interval +3.5 to +4.5, p <
0.001: paired t test over 3 seeds; 4 seeds would show 0.5 points)
The spread leaves out the teacher's: one teacher serves all seeds of a setting.
Only 2 of 3 finished, so not compared: temperature 4, alpha 0.5
Failed: temperature=4 alpha=0.5 seed=1: the loss is not finite
Failed: temperature=4 alpha=0.9 seed=0: the loss is not finite
Failed: temperature=4 alpha=0.9 seed=1: the loss is not finite
Failed: temperature=4 alpha=0.9 seed=2: the loss is not finite
"""

ONE_KEY = """\
gain over control on validation, points, one seed
controls differ

    method   student   control   gain
*   kd          91.0      89.0   +2.0
    at          80.0      85.0   -5.0
* best student on validation, or at most one standard error below it (noise of
197 validation images only: one seed each)
The setting chosen on validation (method kd) has 90.0 % on test, +1.5 points
over the control
On validation it shows 91.0 %. The choice of the best makes that about 0.0
points too high (197 validation images only: one seed each; an upper bound).
"""

SEEDS_ONLY = """\
gain over control on validation, points, mean +- std of 2 seeds
control 87.0 +- 0.0 %

    student          gain
88.5 +- 0.7   +1.5 +- 0.7
The student has 87.5 +- 0.7 % on test, +1.0 +- 0.7 points over the control
(better in 2 of 2)
Against the control on test: TIES: +1.0 points (95 % interval -5.4 to +7.4, p =
0.295: paired t test over 2 seeds; 18 seeds would show 0.5 points)
The spread leaves out the teacher's: one teacher serves all seeds of a setting.
"""


def test_a_grid_of_two_keys() -> None:
    assert text(grid()) == GRID


def test_a_list_for_one_key_with_controls_that_differ() -> None:
    assert text([job({"method": "kd"}, 2.0, 89.0), job({"method": "at"}, -5.0, 85.0)]) == ONE_KEY


def test_seeds_only() -> None:
    assert text([job({"seed": seed}, 1.0 + seed, 87.0, seed) for seed in (0, 1)]) == SEEDS_ONLY


def test_a_grid_too_wide_is_turned_and_else_listed() -> None:
    jobs = [job({"alpha": a, "temperature": t}, 1.0) for a in (0.1, 0.5) for t in (1, 2, 4, 8, 16)]
    lines = text(jobs, 120).splitlines()
    assert "temperature 16" in lines[3]
    assert "alpha 0.5" in text(jobs, 79).splitlines()[3]
    listed = text(jobs, 30).splitlines()
    assert sum("+1.0" in line for line in listed) == 10
    assert max(map(len, listed)) <= 30


@pytest.mark.parametrize("width", [40, 80, 120])
def test_no_line_is_too_long(width: int) -> None:
    jobs = [
        job({"student": f"timm/a_model_with_a_long_name_{i}", "loss.dkd.beta": b, "alpha": 0.1 * i}, 1.0)
        for i in range(3)
        for b in (1, 8)
    ]
    assert all(
        len(line) <= width for line in text([*jobs, failed({"student": "x" * 200})], width).splitlines()
    )


def test_without_controls_and_validation_accuracies_are_shown_and_nothing_is_marked() -> None:
    jobs = [job({"temperature": t}, t) for t in (1.0, 2.0)]
    for one in jobs:
        for model in one["report"]["models"].values():
            del model["last"]["validation"]
        del one["report"]["models"]["control"]
    shown = text(jobs)
    assert shown.startswith("top-1 of the student on test, %, one seed\nno control\n")
    assert "88.0" in shown and "* " not in shown and "No setting is chosen" in shown


def test_all_failed() -> None:
    jobs = [failed({"temperature": t}) for t in range(8)]
    shown = text(jobs)
    assert shown.count("failed") == 9 and "Failed: 3 more" in shown and "* " not in shown


def test_values_are_no_markup() -> None:
    jobs = [job({"stages": value}, 1.0) for value in ("[teacher]", "[student]")]
    assert "[teacher]" in text(jobs) and "[student]" in text(jobs)


def test_a_reduced_test_part_is_named_once() -> None:
    jobs = grid()
    for each in jobs:
        if each["report"]:
            each["report"]["dataset"] |= {"test": 500, "test_of": 10000}
    screen = " ".join(text(jobs, 80).split())
    assert screen.count("The test part was reduced for a try-out: 500 of its 10,000 images.") == 1


def test_that_no_job_finished_is_said_in_place_of_figures() -> None:
    """On the screen and in results.md, whatever was swept."""
    seeds = [failed({"seed": seed}) for seed in (0, 1)]
    both = [failed({"temperature": t, "alpha": a}) for t in (1, 2) for a in (0.1, 0.9)]
    for jobs in (seeds, both, seeds[:1]):
        said = "No job finished: " + (f"all {len(jobs)} failed" if len(jobs) > 1 else "1 failed")
        shown, page = text(jobs), markdown(jobs)
        assert shown.splitlines()[0] == said and f"\n{said}.\n" in page
        for each in (shown, page):
            assert "one seed" not in each and "control" not in each and "Failed: " in each


def test_no_table_of_a_sweep_has_a_column_without_a_heading_for_marks_that_are_none() -> None:
    for jobs in ([job({"seed": seed}, 1.0, 87.0, seed) for seed in (0, 1)], [failed({"seed": 0})]):
        (head,) = (line for line in markdown(jobs).splitlines() if line.endswith("| n |") or line == "| n |")
        assert not head.startswith("|  |")
        assert "\n| ---: |" in markdown(jobs), "figures stand at the right, also in the first column"
    assert "|  | temperature | alpha |" in markdown(grid())
