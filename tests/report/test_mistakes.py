"""Where a run errs: facts, errors.csv and the page's section, by hand."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from kdrun.evaluation.counts import share_interval
from kdrun.report.answers import Answers
from kdrun.report.markdown import markdown
from kdrun.report.mistakes import FILE, facts, surest, write
from tests.report.example import example


def answers(control: bool = True) -> Answers:
    arrays: Answers = {
        "classes": np.array(["cat", "dog", "unseen"]),
        "test/labels": np.array([0, 0, 0, 1, 1, -1]),
        "test/student": np.array([0, 1, 1, 1, 0, 0]),
        "test/student/probability": np.array([0.9, 0.6, 0.8, 0.9, 0.7, 0.5], np.float32),
        "test/student/truth": np.array([0.9, 0.4, 0.2, 0.9, 0.3, np.nan], np.float32),
        "test/teacher": np.array([0, 0, -1, 1, 1, 0]),
    }
    return arrays | ({"test/control": np.array([1, 0, 1, 0, 1, 0])} if control else {})


def test_facts() -> None:
    found = facts(answers())
    assert found["per_class"] == {
        "names": ["cat", "dog"],
        "images": [3, 2],
        "right": {"student": [1, 1], "teacher": [2, 2], "control": [1, 1]},
        "gained": [1, 1],
        "lost": [1, 1],
    }
    assert found["confused"] == [
        {"truth": "cat", "answer": "dog", "images": 2},
        {"truth": "dog", "answer": "cat", "images": 1},
    ]
    assert "gained" not in facts(answers(control=False))["per_class"]
    assert facts({}) == {} and facts({"test/labels": np.array([-1]), "test/student": np.array([0])}) == {}


@pytest.mark.parametrize("files", [(), tuple(f"pets/{place}, a.jpg" for place in range(6))])
def test_errors_csv(tmp_path: Path, files: tuple[str, ...]) -> None:
    write(tmp_path, answers(), files)
    rows = list(csv.DictReader((tmp_path / FILE).read_text().splitlines()))
    assert [row["image"] for row in rows] == ["2", "4", "1"] == [str(row) for row in surest(answers())]
    first = {"truth": "cat", "student": "dog", "p_student": "0.8000", "p_truth": "0.2000", "teacher": ""}
    file = {"file": files[2]} if files else {}
    assert rows[0] == {"image": "2", **file, **first, "control": "dog"}


def test_the_section_of_the_page() -> None:
    report = example()
    report.update(facts(answers()))  # type: ignore[typeddict-item]
    page = markdown(report)
    assert "The student has 3 of 5 test images wrong." in page
    assert "| cat | 3 | 33.3 | 6.1 to 79.2 | 66.7 | 33.3 |" in page
    assert "cat taken for dog (2)." in page and "no class can be told apart from chance" in page
    assert "Where it errs" not in markdown(example()), "of a version that kept no answers by class"


def test_many_classes_show_the_worst_ten_and_what_is_told_apart() -> None:
    report = example()
    names, images = [f"class {place}" for place in range(30)], [100] * 30
    right = {"student": list(range(40, 70)), "control": [0] * 30}
    gained = [40, *[2] * 29]
    report["per_class"] = {
        "names": names, "images": images, "right": right, "gained": gained, "lost": [1] * 30,
    }  # fmt: skip
    section = markdown(report).partition("## Where it errs")[2].partition("\n## ")[0]
    assert section.count("| class ") == 10 and "the 10 worst of 30 classes" in section
    assert "class 0 (+39: 40 gained, 1 lost)" in section and "lost in no class" in section
    assert "Holm over 30 classes): class 0." in section


def test_wilson_by_hand() -> None:
    """Of 8 in 10: Agresti and Coull 1998 give 0.490 to 0.943 for the score interval."""
    assert share_interval(8, 10) == pytest.approx((49.0, 94.3), abs=0.05)
    assert share_interval(0, 10)[0] == pytest.approx(0, abs=1e-9) and share_interval(10, 10)[
        1
    ] == pytest.approx(100)
