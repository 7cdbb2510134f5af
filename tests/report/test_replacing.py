"""What is said of a student that is to replace another model, over one run and over seeds."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from kdrun.report.earlier import with_earlier
from kdrun.report.markdown import markdown
from kdrun.report.replacing import sentences
from kdrun.report.rows import rows
from kdrun.report.schema import Report
from kdrun.report.statistics import one_sided
from kdrun.report.sweep_verdict import replacement
from kdrun.report.sweeps import Setting
from kdrun.report.table import text
from tests.report.example import example, replacing


def test_the_verdict_says_how_good_how_fast_how_small() -> None:
    assert sentences(replacing()) == (
        "It is as good as resnet50 (margin 1 point): difference -0.3 points, at least -0.8 (95 %), over the "
        "test images only. Beside resnet50: 2.7 x as fast at batch 1 on cpu, as fast within the noise at "
        "batch 32 on cpu, 123 x fewer parameters, 257 x fewer MACs and 123 x smaller weights."
    )
    unproven = sentences(replacing(-0.6, -1.9, 0.7))
    assert "not shown to be as good as resnet50 (margin 1 point): difference -0.6 points" in unproven
    assert "at least -1.9, at most +0.7 (95 % each)" in unproven
    worse = sentences(replacing(-3.0, -4.1, -1.9))
    assert "It is worse than resnet50 by more than the margin of 1 point" in worse and "at most -1.9" in worse
    assert "difference +0.50 points, at least -1.03, at most" in sentences(replacing(0.5, -1.03, 2.04))
    assert sentences(example()) == ""


def test_it_stands_in_table_and_page() -> None:
    found = {row.label: row.cells for row in rows(replacing())}
    assert found["against reference"] == ("-", "-0.3", "-", "-")
    assert found["at least (95 %)"] == ("-", "-0.8", "-", "-")
    assert found["top-1 test"][-1] == "90.9" and len(found["top-1 test"]) == 4
    screen = text(replacing(), 80)
    assert max(map(len, screen.splitlines())) <= 80 and "It is as good as resnet50" in " ".join(
        screen.split()
    )
    page = markdown(replacing())
    assert "| reference | resnet50 (weights of big/teacher, not trained here) |" in page
    assert "above -1 point with 95 %" in page


def marked(report: Report, reference: str = "a1") -> Report:
    """The report with a fingerprint for each model."""
    for role, model in report["models"].items():
        model["fingerprint"] = reference if role == "reference" else role
    return report


def test_a_later_evaluation_keeps_it_and_another_reference_takes_its_place() -> None:
    first = marked(replacing())
    assert with_earlier(marked(example()), first)["comparison"]["reference"]["difference"] == -0.3
    other = marked(replacing(0.5, 0.1, 0.9), "b2")
    del other["models"]["control"]
    merged = with_earlier(other, first)
    assert merged["comparison"]["reference"]["difference"] == 0.5 and "control" in merged["models"]


def job(seed: int, difference: float, split: int = 0) -> dict[str, Any]:
    overrides = {"seed": seed, "dataset.split": split}
    return {"overrides": overrides, "report": replacing(difference), "error": None, "folder": "x"}


def test_over_seeds_by_hand() -> None:
    """t(0.95, 2) = 2.920: -0.2 -+ 2.920 * 0.3 / sqrt(3)."""
    gains = [-0.5, 0.1, -0.2]
    half = 2.919986 * 0.3 / 3**0.5
    assert one_sided(gains) == pytest.approx((-0.2 - half, -0.2 + half), abs=1e-5)
    assert one_sided([1.0]) is None
    said = replacement(Setting({}, tuple(job(i, gain) for i, gain in enumerate(gains))))
    assert said == (
        "as good as resnet50 (margin 1 point): difference -0.2 points, at least -0.7 (95 %), over 3 seeds"
    )


def test_over_splits_that_share_images() -> None:
    """Nadeau and Bengio: the variance is (1 / J + test / train) s^2, here 600 images to train on."""
    jobs = [job(seed, gain, split) for split, gain in enumerate([-0.5, 0.1, -0.2]) for seed in (0, 1)]
    said = replacement(Setting({}, tuple(jobs)))
    low = -0.2 - 2.919986 * 0.3 * (1 / 3 + 1000 / 600) ** 0.5
    assert f"at least {low:.1f}, at most" in said and said.endswith("over 3 splits")
    assert replacement(Setting({}, (job(0, 0.1),))) == ""
    mixed = [job(0, 0.1), job(1, 0.2)]
    mixed[1]["report"] = copy.deepcopy(mixed[1]["report"])
    mixed[1]["report"]["comparison"]["reference"]["margin"] = 2.0
    assert replacement(Setting({}, tuple(mixed))) == ""
