from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kdrun.report.markdown import markdown
from kdrun.report.runs import record
from kdrun.report.schema import Report
from kdrun.report.table import text
from kdrun.report.verdict import gain, verdict
from tests.report.example import example, without_control


def report(**comparison: Any) -> Report:
    """Of the example only this comparison, and all images labelled."""
    found = example()
    found["comparison"] = comparison  # type: ignore[typeddict-item]
    del found["distillation"]["unlabelled"]
    return found


def test_the_default_run() -> None:
    assert verdict(example()) == (
        "The distilled student beats its control by 3.8 points (95 % interval +1.9 to +5.7, over the "
        "test images only: one seed), with the help of 540 unlabelled images. It has 123 x fewer parameters "
        "than the teacher and answers 2.7 x as fast at batch 1 on cpu."
    )


@pytest.mark.parametrize(
    ("points", "interval", "p", "word", "sentence"),
    [
        (2.1, (0.6, 3.6), 0.01, "better",
         "The distilled student beats its control by 2.1 points "
         "(95 % interval +0.6 to +3.6, over the test images only: one seed)."),
        (-2.1, (-3.6, -0.6), 0.01, "worse",
         "The distilled student loses to its control by 2.1 points "
         "(95 % interval -3.6 to -0.6, over the test images only: one seed)."),
        (0.3, (-0.8, 1.4), 0.6, "no measurable difference",
         "No measurable difference: the distilled student is 0.3 points above its control "
         "(95 % interval -0.8 to +1.4, over the test images only: one seed)."),
        (-0.3, (-1.4, 0.8), 0.6, "no measurable difference",
         "No measurable difference: the distilled student is 0.3 points below its control "
         "(95 % interval -1.4 to +0.8, over the test images only: one seed)."),
        (0.0, (-0.4, 0.4), 1.0, "no measurable difference",
         "No measurable difference: the distilled student scores the same as its control "
         "(95 % interval -0.4 to +0.4, over the test images only: one seed)."),
        (0.51, (0.02, 1.0), 0.04, "better",
         "The distilled student beats its control by 0.51 points "
         "(95 % interval +0.02 to +1.00, over the test images only: one seed)."),
        (0.4, (0.02, 1.1), 0.062, "no measurable difference",
         "No measurable difference: the distilled student is 0.40 points above its control "
         "(95 % interval +0.02 to +1.10, yet p = 0.06 with so few images told apart, "
         "over the test images only: one seed)."),
    ],
)  # fmt: skip
def test_what_is_claimed(
    points: float, interval: tuple[float, float], p: float, word: str, sentence: str
) -> None:
    found = report(gain_top1=points, gain_interval=list(interval), mcnemar_p=p, verdict=word)
    assert verdict(found) == sentence


def test_one_unlabelled_image_is_singular() -> None:
    found = example()
    found["distillation"]["unlabelled"] = 1
    assert "with the help of 1 unlabelled image." in verdict(found)


def test_without_a_control_nothing_is_claimed() -> None:
    assert verdict(without_control()).startswith(
        "There is no control, so nothing is claimed about a gain from distillation: the student scores 90.6 "
        "%, the teacher scores 92.4 % on test, one seed. It has 123 x fewer"
    )
    assert gain(without_control()) == ""


@pytest.mark.parametrize(
    ("compression", "ratio", "significant", "sentence"),
    [
        (4.0, 1.05, False, "It has 4.0 x fewer parameters than the teacher."),
        (
            1.0,
            2.0,
            True,
            "It has as many parameters as the teacher and answers 2.0 x as fast at batch 1 on cpu.",
        ),
        (0.5, 0.25, True, "It has 2.0 x the teacher's parameters and takes 4.0 x as long at batch 1 on cpu."),
        (None, 3.0, True, "It answers 3.0 x as fast at batch 1 on cpu."),
        (None, None, None, ""),
    ],
)
def test_size_and_speed(compression: float, ratio: float, significant: bool, sentence: str) -> None:
    comparison: dict[str, Any] = {"gain_top1": 2.0, "gain_interval": [1.0, 3.0], "verdict": "better"}
    if compression is not None:
        comparison["compression"] = compression
    if ratio is not None:
        comparison["speedup"] = [{"device": "cpu", "batch": 1, "ratio": ratio, "significant": significant}]
    assert verdict(report(**comparison)).partition("one seed).")[2].strip() == sentence


def test_gain_alone() -> None:
    assert gain(example()) == "+3.8 points (95 % interval +1.9 to +5.7)"


def at(top1: float, n: int = 1000, most_frequent: float = 20.0, verdict: str = "better") -> Report:
    """The example with a student that scores `top1`, and this share of the most frequent of 5 classes."""
    found = example()
    found["dataset"] |= {"classes": 5, "most_frequent": most_frequent}
    found["models"]["student"]["last"]["test"] |= {"top1": top1, "n": n}
    found["comparison"]["verdict"] = verdict  # type: ignore[typeddict-item]
    return found


@pytest.mark.parametrize(("top1", "n"), [(20.0, 1000), (12.0, 1000), (22.0, 1000), (40.0, 10)])
def test_a_student_at_chance_is_said_and_no_gain_is_praised(top1: float, n: int) -> None:
    found = at(top1, n)
    assert verdict(found).startswith(
        f"The student is at chance ({top1} %; always the most frequent of 5 classes: 20.0 %): it learned "
        f"nothing that {n:,} test images show. It has 123 x fewer"
    )
    page = markdown(found)
    assert "beats" not in page and "closes" not in page
    assert record(Path(), found)["at_chance"] and "at chance" in text(found)


@pytest.mark.parametrize(("top1", "n", "share"), [(23.0, 1000, 20.0), (60.0, 10, 20.0), (96.0, 1000, 94.0)])
def test_a_student_above_chance_is_judged_by_its_gain(top1: float, n: int, share: float) -> None:
    found = at(top1, n, share)
    assert verdict(found).startswith("The distilled student beats") and "at_chance" not in record(
        Path(), found
    )


def test_a_student_at_chance_that_loses_is_said_to_lose() -> None:
    assert "loses to its control" in verdict(at(20.0, verdict="worse"))


@pytest.mark.parametrize("points", [-3.8, 0.0])
@pytest.mark.parametrize("word", ["worse", "no measurable difference"])
def test_unlabelled_images_do_not_help_to_lose(points: float, word: str) -> None:
    found = example()
    found["comparison"] |= {"gain_top1": points, "verdict": word}  # type: ignore[typeddict-item]
    assert ", although it also learned from 540 unlabelled images." in verdict(found)
    assert "with the help" not in markdown(found) and "The difference is due to" in markdown(found)
