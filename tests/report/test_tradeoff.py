"""Accuracy against latency and size: fronts, and the smallest student that is as good as its teacher."""

from __future__ import annotations

from typing import Any

import pytest

from kdrun.report import sweeps, tradeoff
from kdrun.report.sweep_table import cost_columns, notes, short_names, text
from tests.report.example import job


def students(*models: tuple[str, int, float, float], teacher: float = 92.0) -> list[dict[str, Any]]:
    """A job for each student: name, parameters, ms, top-1 on validation; on test a point less."""
    jobs = []
    for name, params, ms, top1 in models:
        one = job({"student": name}, 1.0, top1 - 1.0)
        roles = one["report"]["models"]
        roles["student"] |= {"name": name, "params": params}
        roles["student"]["latency"][0]["p50_ms"] = ms
        roles["teacher"]["last"]["validation"]["top1"] = teacher
        roles["teacher"]["last"]["test"]["top1"] = teacher - 1
        jobs.append(one)
    return jobs


FOUR = students(("a", 100, 3.0, 80.0), ("b", 200, 1.0, 85.0), ("c", 300, 2.0, 91.5), ("d", 400, 2.5, 91.2))


def test_a_front_is_what_none_beats() -> None:
    points = tradeoff.points(sweeps.settings(FOUR), "validation")
    assert tradeoff.front(points, "size") == {0, 1, 2}
    assert tradeoff.front(points, "latency") == {1, 2}
    assert tradeoff.fronts(points) == {0: "size", 1: "both", 2: "both"}


def test_equals_share_the_front() -> None:
    points = tradeoff.points(sweeps.settings(students(("a", 9, 1.0, 80.0), ("b", 9, 2.0, 80.0))), "test")
    assert tradeoff.front(points, "size") == {0, 1} and tradeoff.front(points, "latency") == {0}


def test_the_smallest_student_that_is_as_good() -> None:
    settings = sweeps.settings(FOUR)
    assert tradeoff.smallest(settings, "validation", short_names(settings)) == (
        "The smallest student within 1 point of the teacher on validation is c (300 parameters, 0.2 % of the "
        "teacher's, 2.00 ms, 91.5 % against 92.0 % on validation, 90.5 % against 91.0 % on test)"
    )


def test_none_is_as_good() -> None:
    settings = sweeps.settings(students(("a", 9, 1.0, 80.0), ("b", 19, 2.0, 90.9)))
    said = tradeoff.smallest(settings, "validation", short_names(settings))
    assert said is not None and said.endswith("the nearest is b, 1.1 points below")


def test_a_graph_on_the_run_s_device_is_the_latency() -> None:
    (one,) = students(("a", 9, 1.0, 80.0))
    report = one["report"]
    row = dict(report["models"]["student"]["latency"][0])
    report["models"]["student"]["latency"] += [
        {**row, "device": "cuda", "mode": "eager", "p50_ms": 0.5},
        {**row, "device": "cuda", "mode": "graph", "p50_ms": 0.1},
    ]
    report["environment"]["device"] = "cuda:0"
    found = tradeoff.latency(report, "student")
    assert found is not None and (found["mode"], found["p50_ms"]) == ("graph", 0.1)
    assert tradeoff.measured_on(sweeps.settings([one])) == "batch 1 on cuda, graph, 1 thread"


def test_columns_and_notes_only_where_models_differ() -> None:
    settings = sweeps.settings(FOUR)
    assert cost_columns(settings, "validation") == {
        "ms": ["3.00", "1.00", "2.00", "2.50"],
        "parameters": ["100", "200", "300", "400"],
        "front": ["size", "both", "both", ""],
    }
    lines = list(notes(FOUR, settings, "validation", sweeps.choice(settings)))
    assert any(line.startswith("The smallest student") for line in lines)
    assert not cost_columns(sweeps.settings([job({"alpha": a}, 1.0) for a in (0.1, 0.9)]), "validation")


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_fits(width: int) -> None:
    assert max(map(len, text(FOUR, width).splitlines())) <= width
    head = text(FOUR, width).splitlines()[3]
    assert "control" in head and "front" in head


def test_of_many_seeds_the_control_gives_way() -> None:
    jobs = [{**one, "overrides": {**one["overrides"], "seed": s}} for one in FOUR for s in range(2)]
    heads = [text(jobs, width).splitlines()[3] for width in (80, 120)]
    assert ["control" in head for head in heads] == [False, True] and all("front" in head for head in heads)


def test_without_latencies_there_is_no_such_column() -> None:
    jobs = students(("a", 100, 3.0, 80.0), ("b", 200, 1.0, 85.0))
    for one in jobs:
        for model in one["report"]["models"].values():
            del model["latency"]
    assert list(cost_columns(sweeps.settings(jobs), "validation")) == ["parameters", "front"]
    assert tradeoff.fronts(tradeoff.points(sweeps.settings(jobs), "test")) == {0: "size", 1: "size"}


def test_a_teacher_is_one_point_although_each_job_measures_it() -> None:
    jobs = students(("a", 100, 3.0, 80.0), ("b", 200, 1.0, 85.0))
    for ms, one in zip((2.0, 4.0), jobs, strict=True):
        one["report"]["models"]["teacher"]["latency"][0]["p50_ms"] = ms
    settings = sweeps.settings(jobs)
    found = tradeoff.teachers(settings, tradeoff.points(settings, "validation"), "latency")
    assert found == [(3.0, 92.0)]
