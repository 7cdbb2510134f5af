"""Student and control in 8 bits over the seeds of a setting: means, and whether the gain survives."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kdrun.figures import plural
from kdrun.report.int8 import FORMS, ROLES
from kdrun.report.schema import Int8, Report
from kdrun.report.statistics import Spread, spread
from kdrun.report.sweep_verdict import comparison
from kdrun.report.sweeps import Setting, means, spread_text

HEAD = ("", *ROLES, "gain")


def about(setting: Setting) -> str:
    """What the figures are: the line above the table."""
    return f"In 8 bits: top-1 on test in %, gain in points, {over(setting)}"


def measured(setting: Setting) -> list[Int8]:
    """The figures in 8 bits of the finished jobs that have them."""
    return [report["int8"] for report in setting.reports if _has(report)]


def over(setting: Setting) -> str:
    """`mean +- std of 2 seeds`, of those that were measured in 8 bits, and how many other jobs finished."""
    own = setting.those(_has)
    others = len(setting.reports) - len(own.jobs)
    return means([own]) + (f"; {plural(others, 'other job')} without int8" if others else "")


def _has(report: Report) -> bool:
    return "gain" in report.get("int8", {})


def spreads(setting: Setting) -> dict[str, dict[str, Spread]]:
    """By form: student and control, top-1 on test in percent, and the gain in points; empty without any."""
    every = measured(setting)
    return {
        name: {
            **{role: spread([own["models"][role][name]["top1"] for own in every]) for role in ROLES},
            "gain": spread([own["gains"][name]["gain_top1"] for own in every]),
        }
        for name in (FORMS if every else ())
    }


def rows(setting: Setting) -> list[tuple[str, ...]]:
    """Rows under HEAD: mean +- std."""
    return [
        (
            FORMS[name],
            *(spread_text(own[role], "student") for role in ROLES),
            spread_text(own["gain"], "gain"),
        )
        for name, own in spreads(setting).items()
    ]


def sentences(setting: Setting) -> Iterator[str]:
    """The gains in fp32 and in 8 bits over seeds, each with its test."""
    every = measured(setting)
    if len(every) < 2:
        return
    before, now = comparison(setting), comparison(setting, "int8")
    if before is not None and now is not None:
        changes = spread([own["change"] for own in every])
        yield (
            f"In int8, student and plain control each at their best on validation: {now}. The gain changes "
            f"by {spread_text(changes, 'gain')} points from the one over the plain control in fp32."
        )


def record(setting: Setting) -> dict[str, Any]:
    """`{"fp32": {"student": {"mean": ..., "std": ..., "n": ...}, ...}, ...}` for results.json."""
    return {
        name: {what: own.record() for what, own in each.items()} for name, each in spreads(setting).items()
    }
