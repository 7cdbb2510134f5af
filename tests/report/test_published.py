"""A published table beside ours, from a fixed set of made-up reports."""

from __future__ import annotations

import csv
import json
from io import StringIO
from typing import Any

import pytest

from kdrun.config.table import PublishedTable, changed
from kdrun.config.tables import parsed, read
from kdrun.errors import KdrunError
from kdrun.report.published import Done, TablePage, differences, figure, missing, page, records
from kdrun.report.published_page import FORMATS, csv_text, json_text, markdown, render, tex, text
from kdrun.report.schema import Report
from tests.report.example import example

PAIR, SECOND = "big-small", "huge-small"
CONTENT: dict[str, Any] = {
    "title": "Example table 1",
    "paper": {"title": "An Example", "authors": "Doe", "venue": "NN 2020", "address": "https://example.org"},
    "figure": "accuracy",
    "dataset": "cifar100",
    "convention": {"epoch": "best", "sure": False, "runs": 5, "statistic": "mean", "evidence": "its log"},
    "seeds": [0, 1, 2],
    "run": ["dataset=cifar100"],
    "pairs": {PAIR: {}, SECOND: {"differences": ["The pair has another stem."]}},
    "methods": {
        "kd": {"run": ["method=kd"]},
        "crd": {"run": ["method=crd"], "differences": ["The banks differ."]},
        "long": {"run": ["method=ab", "recipe.student.epochs=270"]},
        "magic": {"lacks": "the method"},
    },
    "sources": {
        "readme": {"where": "README.md"},
        "copy": {"where": "a later paper", "quoted": True},
        "unverified": {"where": "nowhere"},
    },
    "published": [
        {
            "source": "readme",
            "std_source": "copy",
            "cells": {
                "teacher": {PAIR: 79.42, SECOND: 80.0},
                "student": {PAIR: 72.5},
                "kd": {PAIR: "73.33 +- 0.25", SECOND: 74.0},
                "crd": {PAIR: "75.51 +- 0.22"},
                "magic": {PAIR: 99.0},
            },
        },
        {"source": "unverified", "verified": False, "cells": {"crd": {SECOND: 76.0}}},
    ],
    "others": [
        {
            "who": "Roe",
            "source": "readme",
            "runs": 5,
            "about": "other seeds",
            "cells": {"kd": {PAIR: "73.17 +- 0.21"}},
        }
    ],
    "differences": ["Our teachers are others."],
    "notes": ["Only an example."],
}


PUBLISHED = (
    "published: mean of 5 runs, most likely at the epoch that was best on the test images; "
    "ours: mean +- std (seeds), last epoch"
)


def table(**changes: Any) -> PublishedTable:
    return parsed({**CONTENT, **changes}, "example", "example.yaml")


def report(teacher: float, student: float, control: float | None, n: int = 10_000) -> Report:
    made = example()
    for role, top1 in (("teacher", teacher), ("student", student), ("control", control)):
        if top1 is None:
            del made["models"][role]
        else:
            made["models"][role]["last"]["test"] = {"n": n, "top1": top1}
    return made


def done() -> list[Done]:
    runs = [
        Done(PAIR, "kd", seed, report(79.0, student, control))
        for seed, student, control in ((0, 73.2, 72.4), (1, 73.5, 72.6), (2, 73.0, 72.2))
    ]
    runs += [
        Done(PAIR, "crd", seed, report(79.0, student, control))
        for seed, student, control in ((0, 74.4, 72.4), (1, 74.5, 72.6), (2, 74.3, 72.2))
    ]
    return [*runs, Done(PAIR, "long", 0, report(79.0, 73.9, 99.0)), Done(SECOND, "kd", 0, None)]


def shown(reduced: tuple[str, ...] = (), **chosen: Any) -> TablePage:
    return page(table(), done(), reduced=reduced, **chosen)


TEXT = """\
Example table 1 (Doe, NN 2020): cifar100, top-1 accuracy, %
{published}

big -> small
                       published             others               ours  difference
teacher big                79.42                             79.00 (1)       -0.42
student small              72.50                     72.40 +- 0.20 (3)      *-0.10
kd             73.33 +- 0.25 (5)  73.17 +- 0.21 (5)  73.23 +- 0.25 (3)      *-0.10
crd            75.51 +- 0.22 (5)                     74.40 +- 0.10 (3)       -1.11
long                                                         73.90 (1)
magic                      99.00

huge -> small
              published  others  ours  difference
teacher huge      80.00
kd                74.00
crd

* within two standard deviations of our seeds; difference: ours - published
(1): one seed, which says nothing about the spread of seeds
others: Roe, other seeds
not run: kdrun table example pair=huge-small
cannot be run: magic: kdrun lacks the method
known, but not checked against a source, so not shown: crd for huge -> small

Differences between the published protocol and ours
- Our teachers are others.
- huge-small: The pair has another stem.
- crd: The banks differ.

Ours
- 7 runs of 2026-01-02: kdrun 0.1.0, torch 2.6.0, 1 thread

Before comparing
- Only an example.

Sources
- figures: README.md
- deviations: a later paper (quoted there)
- others: README.md
- paper: An Example, https://example.org
"""


def test_the_whole_page() -> None:
    assert text(shown(), 130) == TEXT.format(published=PUBLISHED)


def test_at_80_columns_published_deviations_make_room() -> None:
    narrow = text(shown(), 80)
    assert all(len(line) <= 80 for line in narrow.splitlines())
    assert "kd                 73.33  73.17 +- 0.21 (5)  73.23 +- 0.25 (3)      *-0.10\n" in narrow
    assert narrow.endswith(TEXT[TEXT.index("\n* within") :])


def test_the_student_alone_is_the_control_of_methods_with_its_recipe() -> None:
    cells = {cell.method: cell for cell in shown().cells if cell.pair == PAIR}
    assert cells["student"].values == {0: 72.4, 1: 72.6, 2: 72.2}  # not 99, of the method that trains longer
    assert cells["teacher"].values == {0: 79.0}  # one teacher, whatever the seeds
    only = page(table(), [run for run in done() if run.method == "long"])
    assert not next(cell for cell in only.cells if cell.method == "student").values


def test_near_needs_seeds() -> None:
    cells = {cell.method: cell for cell in shown().cells if cell.pair == PAIR}
    assert (cells["kd"].near, cells["crd"].near, cells["teacher"].near) == (True, False, None)
    assert (cells["long"].difference, cells["long"].near) == (None, None)
    assert (cells["crd"].mark, cells["kd"].mark, cells["long"].mark) == ("best", None, None)
    assert cells["kd"].difference == pytest.approx(73.2333 - 73.33, abs=1e-3)


def test_what_was_not_checked_is_never_shown() -> None:
    for form in FORMATS:
        assert "76.0" not in render(shown(), form)
    assert missing(shown()) == [(SECOND, "kd"), (SECOND, "crd")]


def test_a_reduced_budget_reproduces_nothing() -> None:
    typed = ["recipe.student.epochs=10", "dataset.train=5000", "device=cpu"]
    few = shown(changed(typed))
    told = "reduced: student.epochs=10 dataset.train=5000"
    for form in ("text", "md", "tex"):
        content = render(few, form, 140)
        assert "difference: ours" not in content and "*" not in content.replace("\\%", "")
        assert f"{told}. This is not the published experiment, so it reproduces nothing." in content
        rows = [line for line in content.splitlines() if "73.23" in line or "79.00" in line]
        assert len(rows) == 2 and all(told in row for row in rows)
    narrow = text(few, 80)
    assert all(len(line) <= 80 for line in narrow.splitlines())
    assert all(line.endswith("reduced") for line in narrow.splitlines() if "73.23" in line or "79.00" in line)
    reader = list(csv.DictReader(StringIO(csv_text(few))))
    assert [line["reduced"] for line in reader if line["ours"]] == [
        "recipe.student.epochs=10 dataset.train=5000"
    ] * 5
    assert all(not line["difference"] and not line["within_two_std"] for line in reader)
    kept = [cell for cell in json.loads(json_text(few))["cells"] if "ours" in cell]
    assert all("reduced" in cell and "difference" not in cell for cell in kept)


def test_some_pairs_and_methods() -> None:
    some = shown(pairs=[PAIR], methods=["crd"])
    assert [cell.method for cell in some.cells] == ["teacher", "student", "crd"]
    assert some.cells[1].values  # the control of kd's runs, though kd is not shown
    assert differences(some) == ["Our teachers are others.", "crd: The banks differ."]
    assert "others" not in text(some).splitlines()[5]


def test_markdown() -> None:
    content = markdown(shown())
    assert content.startswith("# Example table 1 (Doe, NN 2020): cifar100, top-1 accuracy, %\n\npublished: ")
    assert "| kd | 73.33 +- 0.25 (5) | 73.17 +- 0.21 (5) | 73.23 +- 0.25 (3) | *-0.10 |\n" in content
    assert "\n## huge -> small\n\n" in content and "- `*` within two standard deviations" in content


def test_csv() -> None:
    lines = list(csv.DictReader(StringIO(csv_text(shown()))))
    assert [line["method"] for line in lines[:6]] == ["teacher", "student", "kd", "crd", "long", "magic"]
    kd = lines[2]
    assert (kd["published"], kd["published_std"], kd["published_runs"]) == ("73.33", "0.25", "5")
    assert (kd["others"], kd["source"], kd["ours_n"]) == ("73.17 +- 0.21 (5) Roe", "README.md", "3")
    assert float(kd["ours"]) == pytest.approx(73.2333, abs=1e-3) and kd["within_two_std"] == "True"
    assert lines[5]["lacks"] == "the method" and lines[5]["ours"] == ""


def test_json() -> None:
    content = json.loads(json_text(shown()))
    assert content["differences"] == differences(shown()) and content["convention"]["epoch"] == "best"
    kd = next(cell for cell in content["cells"] if cell["method"] == "kd")
    assert kd["published"] == {
        "value": 73.33,
        "std": 0.25,
        "runs": 5,
        "source": "README.md",
        "std_source": "a later paper",
    }
    assert kd["ours"]["by_seed"] == {"0": 73.2, "1": 73.5, "2": 73.0}
    assert "published" not in content["cells"][-1] and content["cells"][-1]["unchecked"] is True


def test_latex() -> None:
    content = tex(shown(pairs=[PAIR]))
    assert r"kd & $73.33_{\pm 0.25}$ & $73.17_{\pm 0.21}$ & $73.23_{\pm 0.25}$ & $-0.10^{*}$ \\" in content
    assert r"crd & $75.51_{\pm 0.22}$ & -- & $\mathbf{74.40}_{\pm 0.10}$ & $-1.11$ \\" in content
    assert r"\multicolumn{5}{l}{\emph{big $\to$ small}} \\" in content
    assert "Bold: our best method; underlined: our seeds do not tell it from the best." in content


def test_several_others_have_letters() -> None:
    second = {"who": "Poe", "source": "copy", "cells": {"kd": {PAIR: 70.1}}}
    both = page(table(others=[*CONTENT["others"], second]), done())
    assert "73.17 +- 0.21 (5) a, 70.10 b" in text(both, 140)
    assert "\na: Roe, other seeds\nb: Poe\n" in text(both, 140)
    assert r"73.17 $\pm$ 0.21 (5) a, 70.10 b" in tex(both)


def test_errors_and_counts_of_errors() -> None:
    made = report(79.0, 73.2, 72.4)
    assert figure(table(figure="error"), made, "student") == pytest.approx(26.8)
    assert figure(table(figure="errors"), made, "student") == 2680
    counted = read("hinton_mnist")
    runs = [Done("mlp1200-mlp800", "kd", seed, report(99.3, 99.2 + seed / 100, 98.5)) for seed in (0, 1)]
    content = text(page(counted, runs, methods=["kd"]))
    assert "less is better" in content
    assert "teacher mlp1200         67            70 (1)        +3.0\n" in content
    assert "kd                      74   79.5 +- 0.7 (2)        +5.5\n" in content


def test_less_is_better_where_errors_are_shown() -> None:
    cells = {cell.method: cell for cell in page(table(figure="error"), done()).cells if cell.pair == PAIR}
    assert cells["crd"].mark == "best"


@pytest.mark.parametrize("name", ["crd1", "imagenet", "lskd", "ofd", "hinton_mnist", "keras_example"])
def test_shipped_tables_without_a_run(name: str) -> None:
    empty = page(read(name), [])
    for width in (80, 120):
        content = text(empty, width)
        assert all(len(line) <= width for line in content.splitlines())
        assert f"not run: kdrun table {name}\n" in content
    for form in FORMATS:
        assert render(empty, form)
    assert len(records(empty)) == len(empty.cells)


def test_another_format() -> None:
    with pytest.raises(KdrunError, match="format=pdf: no such format"):
        render(shown(), "pdf")


OTHER_FIGURES = {
    **CONTENT["methods"],
    "kd_biased": {"of": "kd", "figure": "top1_biased"},
    "kd_on_3": {"of": "kd", "figure": "errors_missing"},
}


def test_a_row_shows_another_figure_of_the_runs_of_a_method() -> None:
    """A percentage is counted as the table counts top-1; a count stays as it is."""
    its = table(figure="errors", methods=OTHER_FIGURES)
    made = report(79.0, 98.0, 97.0)
    made["models"]["student"]["figures"] = {"top1_biased": 98.5, "errors_missing": 14}
    made["units"] = {"top1_biased": "%", "errors_missing": ""}
    runs = [Done(PAIR, "kd", 0, made)]
    rows = {cell.method: cell for cell in page(its, runs, [PAIR], ["kd"]).cells}
    assert {name: dict(rows[name].values) for name in ("kd", "kd_biased", "kd_on_3")} == {
        "kd": {0: 200},
        "kd_biased": {0: 150},
        "kd_on_3": {0: 14},
    }
    assert "crd" not in rows
    assert {method for _, method in its.places()} == {"kd", "crd"}
    assert {method for _, method in missing(page(its, []))} == {"kd", "crd"}
    with pytest.raises(
        KdrunError, match="method=kd_on_3: another figure of the runs of a method; choose that"
    ):
        its.places(methods=["kd_on_3"])


def test_a_student_that_was_taught_on_fewer_classes_has_another_control() -> None:
    its = table(methods={**CONTENT["methods"], "fewer": {"run": ["method=kd", "transfer_without=[3]"]}})
    assert its.baseline(PAIR, "kd")
    assert not its.baseline(PAIR, "fewer")


@pytest.mark.parametrize(
    ("method", "problem"),
    [
        ({"of": "magic"}, r"methods.other.of=magic: no such choice"),
        ({"of": "kd", "run": ["method=kd"]}, "run .* or lacks .* is needed"),
        ({}, "run .* or lacks .* is needed"),
    ],
)
def test_a_row_of_no_runs_is_refused(method: dict[str, Any], problem: str) -> None:
    with pytest.raises(KdrunError, match=problem):
        table(methods={**CONTENT["methods"], "other": method})
