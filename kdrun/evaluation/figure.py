"""What an evaluator yields."""

from __future__ import annotations

from typing import NamedTuple


class Figure(NamedTuple):
    """A number that was measured.

    name: its key in report.json. unit: `%`, `nats`, `ms`; empty for a plain number. whose: the model it is
    about: teacher, student, control. part, weights: the images (`validation`, `test`) and the weights
    (`last`, `val_best`) it was measured with; both empty if it is about the model itself.
    """

    name: str
    value: float
    unit: str
    whose: str
    part: str = ""
    weights: str = ""
