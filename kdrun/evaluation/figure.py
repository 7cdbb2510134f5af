"""A figure: a number that an evaluator measures."""

from __future__ import annotations

from typing import NamedTuple


class Figure(NamedTuple):
    """A measured number.

    name: its key in report.json. unit: `%`, `nats`, `ms`; empty for a plain number. whose: teacher, student
    or control. part: its images, `validation` or `test`. weights: `last` or `val_best`. Both are empty if the
    figure does not depend on them.
    """

    name: str
    value: float
    unit: str
    whose: str
    part: str = ""
    weights: str = ""
