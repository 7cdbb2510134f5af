"""The student against each of several controls, over the seeds or splits of a setting."""

from __future__ import annotations

from functools import partial
from typing import Any

from kdrun.figures import ABSENT, p_value
from kdrun.nested import known
from kdrun.report.schema import Report, named_control, top1
from kdrun.report.statistics import GainEvidence, Spread, holm_corrected, spread
from kdrun.report.sweep_verdict import over_repeats
from kdrun.report.sweeps import PARTS, Setting, means, spread_text, values_by_repeat

HEAD = ("control", "validation", "test", "gain on test", "better in", "p", "")

Gains = dict[tuple[str, ...], float]


def about(setting: Setting) -> str:
    """What the figures are: the line above the table."""
    own = means([setting.those(_has)])
    return f"Against each control: top-1 in %, gain in points, {own}, p by Holm"


def rows(setting: Setting) -> list[tuple[str, ...]]:
    """Rows under HEAD, one for each control; empty without several controls."""
    every = gains(setting)
    tests = holm_corrected(known({role: over_repeats(setting, own) for role, own in every.items()}))
    return [
        (
            named_control(role),
            *(spread_text(value, "control") for value in _accuracies(setting, role)),
            spread_text(spread(list(own.values())), "gain"),
            f"{sum(gain > 0 for gain in own.values())} of {len(own)}",
            *_verdict(tests.get(role)),
        )
        for role, own in every.items()
    ]


def gains(setting: Setting) -> dict[str, Gains]:
    """By control: the student's top-1 minus its own on test in points, by repeat, of the jobs with both."""
    roles = [role for report in filter(_has, setting.reports) for role in report["comparison"]["controls"]]
    every = {role: values_by_repeat(setting, partial(_gain, role=role)) for role in roles}
    return {role: own for role, own in every.items() if own}


def record(setting: Setting) -> dict[str, Any]:
    """`{"longer": {"validation": {"mean": ..., "std": ..., "n": ...}, "test": ..., "gain": ...}, ...}` for
    results.json.
    """
    every: dict[str, Any] = {}
    for role, own in gains(setting).items():
        figures: dict[str, Spread | None] = dict(zip(PARTS, _accuracies(setting, role), strict=True))
        figures["gain"] = spread(list(own.values()))
        every[named_control(role)] = {what: value.record() for what, value in figures.items() if value}
    return every


def _has(report: Report) -> bool:
    return bool(report.get("comparison", {}).get("controls"))


def _gain(report: Report, role: str) -> float | None:
    student, control = top1(report, "student", "test"), top1(report, role, "test")
    return None if student is None or control is None else student - control


def _accuracies(setting: Setting, role: str) -> list[Spread | None]:
    every = [values_by_repeat(setting, partial(top1, role=role, part=part)) for part in PARTS]
    return [spread(list(values.values())) if values else None for values in every]


def _verdict(one: GainEvidence | None) -> tuple[str, str]:
    if one is None or one.p is None:
        return ABSENT, ""
    return p_value(one.p).removeprefix("= "), one.verdict or ""
