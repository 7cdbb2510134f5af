"""The section of report.md about several controls: what each is, and the student against each."""

from __future__ import annotations

from typing import Any

from kdrun.config.choices import PLAIN
from kdrun.figures import ABSENT, as_typed, interval, p_value, percent, plural, signed
from kdrun.report.blocks import Block, Table
from kdrun.report.schema import Against, Model, Report, named_control, strongest, top1

HEAD = ("control", "what it is", "validation %", "test %", "gain, points", "95 % interval", "p", "verdict")


def blocks(report: Report) -> list[Block]:
    """The section without its title; empty for a run with one control."""
    comparison = report.get("comparison", {})
    every = comparison.get("controls", {})
    if not every:
        return []
    body = [_row(report, role, against) for role, against in every.items()]
    chosen = named_control(strongest(report))
    why = f"`{chosen}` is the strongest on validation; no test image chose it."
    if comparison.get("chosen_by") != "validation":
        why = f"Without validation images none can be called the strongest; `{chosen}` is the first of them."
    return [
        Table(HEAD, body, left=2),
        f"{why} Gain and verdict of the run are against this one, a single comparison. In the table, p is "
        f"McNemar's mid-p with Holm's correction over {plural(len(every), 'control')}; each interval holds "
        "for its row alone.",
    ]


def what(role: str, model: Model, settings: dict[str, Any]) -> str:
    """A control in words. settings: the keys of `controls`."""
    if role == PLAIN:
        return "the same student, start, steps and recipe, no teacher"
    return {
        "smoothed": f"plain, with label smoothing {as_typed(settings.get('smoothing'))}",
        "teacher_free": (
            f"plain, with a virtual teacher (weight {as_typed(settings.get('virtual_weight'))}, "
            f"T={as_typed(settings.get('virtual_temperature'))}, "
            f"{as_typed(settings.get('virtual_true_class'))} for the true class)"
        ),
        "self": "taught by the plain control, as the student is by its teacher",
        "longer": f"plain, for {plural(model.get('epochs', 0), 'epoch')}",
    }.get(named_control(role), "")


def _row(report: Report, role: str, against: Against) -> list[str]:
    model, settings = report["models"].get(role, Model()), report.get("config", {}).get("controls", {})
    scores = [top1(report, role, "validation"), top1(report, role, "test")]
    return [
        named_control(role),
        what(role, model, settings),
        *(ABSENT if score is None else percent(score) for score in scores),
        signed(against["gain_top1"]),
        interval(against["gain_interval"]),
        p_value(against["mcnemar_p"]).removeprefix("= "),
        against["verdict"],
    ]
