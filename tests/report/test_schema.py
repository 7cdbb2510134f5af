from __future__ import annotations

import ast
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import kdrun.report
from kdrun.evaluation.figure import Figure
from kdrun.report.content import build, placed, problems
from kdrun.report.schema import gap_closed, parts, top1
from tests.report.example import FIELDS, example


def changed(**fields: Any) -> dict[str, Any]:
    return {**json.loads(json.dumps(example())), **fields}


def test_a_report_survives_json() -> None:
    report = example()
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    assert report["schema"] == 1
    assert problems(report) == []


def test_what_was_not_measured_is_absent_but_the_config_is_untouched() -> None:
    model = {
        "name": "s",
        "macs": None,
        "latency": [],
        "last": {"test": {"n": 5, "top1": 20.0, "nll": math.nan}},
    }
    fields = {**FIELDS, "models": {"student": model}, "comparison": {"speedup": [], "gap_closed": None}}
    report = build(**fields)
    assert report["models"]["student"] == {"name": "s", "last": {"test": {"n": 5, "top1": 20.0}}}
    assert "comparison" not in report
    assert report["config"] == FIELDS["config"] and report["config"]["temperature"] is None


def test_a_zero_that_was_measured_stays() -> None:
    report = build(**{**FIELDS, "comparison": {"gain_top1": 0.0}})
    assert report["comparison"] == {"gain_top1": 0.0}


@pytest.mark.parametrize(
    ("report", "problem"),
    [
        ([], "is not an object"),
        ({}, "has schema None, not 1"),
        (changed(schema=2), "has schema 2, not 1"),
        (changed(models=[]), "models is not an object"),
        (changed(models={"student": 5}), "models.student is not an object"),
        (changed(comparison=[]), "comparison is not an object"),
        (changed(comparison={"speedup": {}}), "comparison.speedup is not a list"),
        (changed(notes="text"), "notes is not a list"),
        (changed(label=["a"]), "label is not text"),
        (changed(config=[]), "config is not an object"),
        (changed(config={"evaluation": 5}), "config.evaluation is not an object"),
        (changed(models={"teacher": {}}), "lacks models.student"),
        (
            changed(models={"student": {}, "assistants": {}, "generation2": {}}),
            "models.assistants is no role",
        ),
        (changed(models={"student": {}, "helper": {}}), "models.helper is no role"),
        (changed(headline="best"), "headline is 'best', not 'last' or 'val_best'"),
        (changed(comparison={"agreement": 101.0}), "comparison.agreement is 101.0, not a percentage"),
        (changed(comparison={"gain_top1": math.nan}), "comparison.gain_top1 is nan"),
    ],
)
def test_problems_are_named(report: object, problem: str) -> None:
    assert problem in problems(report)


def test_a_report_may_be_nested_to_any_depth() -> None:
    deep: list[Any] = [float("nan")]
    for _ in range(5000):
        deep = [deep]
    report = example()
    report["notes"] = deep
    (problem,) = problems(report)
    assert problem.startswith("notes[0][0]") and problem.endswith(" is nan")


def test_missing_keys_are_named() -> None:
    report = changed()
    del report["seeds"]
    assert problems(report) == ["lacks seeds"]


def test_build_refuses_what_cannot_be_drawn() -> None:
    with pytest.raises(ValueError, match="lacks label"):
        build(**{key: value for key, value in FIELDS.items() if key != "label"})


def test_figures_are_those_of_the_headline() -> None:
    report = example()
    assert top1(report, "student", "test") == 90.6
    report["headline"] = "val_best"
    assert top1(report, "student", "test") is None
    report["models"]["student"]["val_best"] = {"test": {"n": 1000, "top1": 91.0}}
    assert top1(report, "student", "test") == 91.0
    assert top1(report, "nobody", "test") is None  # type: ignore[arg-type]


def test_a_checkpoint_has_one_state_whatever_the_headline() -> None:
    report = example()
    report["headline"] = "val_best"
    report["models"]["teacher"]["source"] = "checkpoint"
    assert parts(report, "teacher")["test"]["top1"] == 92.4
    assert parts(report, "control") == {}


def test_no_torch_in_this_package() -> None:
    folder = Path(kdrun.report.__file__).parent
    for file in folder.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not any(name.split(".")[0] == "torch" for name in names), file.name


def test_the_whole_package_imports_neither_torch_nor_matplotlib() -> None:
    modules = [f"kdrun.report.{file.stem}" for file in Path(kdrun.report.__file__).parent.glob("[a-z]*.py")]
    code = (
        f"import sys, {', '.join(modules)}; print([m for m in ('torch', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("closed", "unit", "shown"), [(67.9, "%", 67.9), (0.679, "", 67.9), (-0.2, "", None)]
)
def test_the_gap_is_in_percent_whichever_version_wrote_it(
    closed: float, unit: str, shown: float | None
) -> None:
    report = build(**FIELDS)
    report["comparison"]["gap_closed"], report["units"] = closed, {"gap_closed": unit}
    assert gap_closed(report) == (None if shown is None else pytest.approx(shown))


def test_figures_stand_where_reports_have_them() -> None:
    figures = [
        Figure("top1", 90.0, "%", "student", "test", "last"),
        Figure("entropy", 0.2, "nats", "student", "test", "last"),
        Figure("params", 994, "", "student"),
        Figure("depth", 3, "layers", "teacher"),
        Figure("agreement", 93.1, "%", "student"),
    ]
    assert placed(figures) == {
        "models": {
            "student": {"last": {"test": {"top1": 90.0, "entropy": 0.2}}, "params": 994},
            "teacher": {"figures": {"depth": 3}},
        },
        "comparison": {"agreement": 93.1},
        "units": {"top1": "%", "entropy": "nats", "params": "", "depth": "layers", "agreement": "%"},
    }
