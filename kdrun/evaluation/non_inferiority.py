"""Whether a model is as good as another within a margin, from bounds of the difference. Without torch."""

from __future__ import annotations

from typing import Literal

AsGood = Literal["as good", "not shown to be as good", "worse"]


def as_good(at_least: float, at_most: float, margin: float) -> AsGood:
    """Non-inferiority: Piaggio et al. 2012, figure 1.

    at_least, at_most: one-sided 95 % bounds of the difference to the other model, in points. As good: it is
    surely less than the margin below. Worse: it is surely more than the margin below.
    """
    if at_least > -margin:
        return "as good"
    return "worse" if at_most < -margin else "not shown to be as good"
