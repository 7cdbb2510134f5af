"""A later evaluation of the same models keeps what an earlier one measured, and says when that was."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from kdrun.config.schema import Evaluation
from kdrun.report.content import build, problems
from kdrun.report.earlier import covers, kept_from, looks, with_earlier
from kdrun.report.markdown import markdown
from kdrun.report.schema import Report
from kdrun.report.table import text
from kdrun.stages.facts import settings
from tests.report.example import FIELDS, latency

EVALUATION = {"latency": True, "batches": [1, 32], "samples": 200, "seconds": 1.0, "plots": True}
ROLES = ("teacher", "student", "control")


def report(
    created: str = "2026-01-02T03:04:05+0000", without: tuple[str, ...] = (), **evaluation: Any
) -> Report:
    """The example, evaluated with these settings. without: models that were not there."""
    fields = copy.deepcopy(FIELDS)
    fields |= {"created": created, "fingerprint": f"f{created[8:10]}"}
    fields["config"] |= {"evaluation": EVALUATION | evaluation}
    fields["models"] = {role: fields["models"][role] for role in ROLES if role not in without}
    for role, model in fields["models"].items():
        model["fingerprint"] = f"{role}-weights"
        if evaluation.get("latency") is False:
            del model["latency"]
    if "control" in without:
        kept = ("agreement", "kl_teacher_student", "compression")
        fields["comparison"] = {name: fields["comparison"][name] for name in kept}
    return build(**fields)


def test_latencies_stay_and_keep_their_time_and_machine() -> None:
    first, second = report(), report("2026-03-04T05:06:07+0000", latency=False)
    first["environment"]["torch"] = "2.5.0"
    both = with_earlier(second, first)
    assert problems(both) == []
    for role in ROLES:
        assert both["models"][role]["latency"] == first["models"][role]["latency"]
    (look,) = both["earlier"]
    assert (look["fingerprint"], look["created"]) == ("f02", first["created"])
    assert look["environment"] == first["environment"] and look["evaluation"] == EVALUATION
    assert look["figures"][0] == "teacher/latency/cpu/eager/1/1" and len(look["figures"]) == 6
    assert kept_from(both, look) == ["latency"]
    assert "measured on 2026-01-02 03:04: latency\n" in text(both)
    page = markdown(both)
    assert "- Measured by an earlier evaluation, on 2026-01-02 03:04 (torch 2.5.0): latency." in page
    assert "latency" not in second["models"]["student"], "the new report itself stays as it is"


def test_what_is_measured_again_is_new_and_the_rest_stays() -> None:
    first, second = report(), report("2026-03-04T05:06:07+0000", batches=[1, 8])
    rows: list[Any] = latency(0.5)
    for role in ROLES:
        second["models"][role]["latency"] = [rows[0], {**rows[1], "batch": 8}]
    both = with_earlier(second, first)
    assert [(row["batch"], row["p50_ms"]) for row in both["models"]["student"]["latency"]] == [
        (1, 0.5),
        (8, 6.0),
        (32, 12 * 0.0246),
    ]
    assert [name[-3:] for name in both["earlier"][0]["figures"]] == ["/32"] * 3


def test_figures_of_evaluators_stay() -> None:
    first, second = report(figures=["accuracy", "mine.entropy"]), report("2026-03-04T05:06:07+0000")
    first["units"] = {"entropy": "nats", "depth": "layers"}
    first["models"]["student"]["last"]["test"]["entropy"] = 0.21  # type: ignore[typeddict-unknown-key]
    first["models"]["student"]["figures"] = {"depth": 3}
    both = with_earlier(second, first)
    assert both["earlier"][0]["figures"] == ["student/figures/depth", "student/last/test/entropy"]
    assert both["models"]["student"]["figures"] == {"depth": 3}
    assert "entropy test" in text(both) and "depth" in text(both)


def test_a_model_that_is_not_evaluated_again_stays_with_the_comparison() -> None:
    first, second = report(), report("2026-03-04T05:06:07+0000", without=("control",))
    both = with_earlier(second, first)
    assert both["models"]["control"] == {
        key: value for key, value in first["models"]["control"].items() if key != "latency"
    }, "latencies of the others were measured again: these no longer compare with them"
    assert {key: both["comparison"][key] for key in ("gain_top1", "verdict", "gap_closed")} == {  # type: ignore[literal-required]
        "gain_top1": 3.8, "verdict": "better", "gap_closed": 0.679,
    }  # fmt: skip
    assert "measured on 2026-01-02 03:04: gain, gap closed, the control\n" in text(both)


def test_looks_are_kept_as_long_as_a_figure_is_left_of_them() -> None:
    first = report(figures=["mine.entropy"])
    first["models"]["student"]["figures"] = {"depth": 3}
    second = with_earlier(report("2026-03-04T05:06:07+0000"), first)
    third = with_earlier(report("2026-05-06T07:08:09+0000", latency=False), second)
    assert [(look["fingerprint"], len(look["figures"])) for look in third["earlier"]] == [
        ("f04", 6),
        ("f02", 1),
    ]
    fourth = with_earlier(report("2026-07-08T09:10:11+0000"), third)
    assert [look["fingerprint"] for look in fourth["earlier"]] == ["f02"]


@pytest.mark.parametrize("other", ["fingerprint", "headline"])
def test_nothing_is_taken_from_other_models_or_other_weights(other: str) -> None:
    first, second = report(), report("2026-03-04T05:06:07+0000", latency=False)
    if other == "headline":
        second["headline"] = "val_best"
    else:
        second["models"]["teacher"]["fingerprint"] = "another"
    assert with_earlier(second, first) == second


def test_older_reports_know_their_models_by_folder() -> None:
    first, second = report(), report("2026-03-04T05:06:07+0000", latency=False)
    for role in ROLES:
        mark = first["models"][role].pop("fingerprint")
        first.setdefault("folders", {})[role] = f"a-folder-{mark.replace('-', '')}"
        second["models"][role]["fingerprint"] = mark.replace("-", "")
    assert "latency" in with_earlier(second, first)["models"]["student"]
    first["folders"].pop("teacher")
    assert "latency" not in with_earlier(second, first)["models"]["student"]


def test_what_earlier_looks_cover() -> None:
    asked = EVALUATION | {"latency": False}
    once = looks(report())
    assert [look["fingerprint"] for look in once] == ["f02"]
    assert covers(once, EVALUATION) and covers(once, asked)
    assert covers(once, EVALUATION | {"batches": [32], "samples": 100, "seconds": 0.5})
    for more in (
        {"batches": [1, 8]},
        {"samples": 201},
        {"seconds": 2.0},
        {"figures": ["accuracy", "mine.x"]},
    ):
        assert not covers(once, EVALUATION | more), more
    assert not covers(looks(report(latency=False)), EVALUATION)
    assert not covers(looks(report(figures=["cost"])), EVALUATION)
    assert not covers([], asked | {"figures": []}), "a look at other models covers nothing"


def test_a_report_that_names_no_evaluators_has_those_of_its_time() -> None:
    """Its figures do not grow with the list of today."""
    old = looks(report())
    assert "figures" not in old[0]["evaluation"]
    today = ["accuracy", "calibration", "agreement", "gap", "cost", "robustness"]
    assert covers(old, EVALUATION | {"figures": today[:5]})
    assert not covers(old, EVALUATION | {"figures": today})
    assert covers(looks(report(figures=today)), EVALUATION | {"figures": today})
    assert looks(report(figures=today[:5]))[0]["evaluation"] == EVALUATION  # as it counts in fingerprints
    assert settings(Evaluation(figures=today))["figures"] == today
    assert "figures" not in settings(Evaluation(figures=today[:5]))
