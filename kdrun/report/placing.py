"""Where a figure stands in report.json."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kdrun.evaluation.figure import Figure

MODEL = ("params", "macs", "bytes")
"""Figures that are keys of a model, not of its `figures`."""

COMPARISON = ("agreement", "kl_teacher_student", "gap_closed", "compression")
"""Figures of the student that are keys of `comparison`."""


def placed(figures: Iterable[Figure]) -> dict[str, Any]:
    """The figures in the fields `models`, `comparison` and `units` of a report.

    A figure of some weights and part is at `models.WHOSE.WEIGHTS.PART.NAME`, any other at
    `models.WHOSE.figures.NAME`, unless it is one of MODEL or COMPARISON.
    """
    models: dict[str, Any] = {}
    comparison: dict[str, Any] = {}
    units: dict[str, str] = {}
    for name, value, unit, whose, part, weights in figures:
        units[name] = unit
        own = models.setdefault(whose, {})
        if part:
            own.setdefault(weights, {}).setdefault(part, {})[name] = value
        elif name in COMPARISON:
            comparison[name] = value
        elif name in MODEL:
            own[name] = value
        else:
            own.setdefault("figures", {})[name] = value
    return {"models": models, "comparison": comparison, "units": units}
