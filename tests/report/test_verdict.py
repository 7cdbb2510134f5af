from __future__ import annotations

from typing import Any

import pytest

from kdrun.report.schema import Report
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
