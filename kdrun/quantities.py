"""What an argument may be, by its annotation: types, and numbers within a range. Imports no torch.

The names of ranges are annotations for families, losses and sources, also of users: `widths: list[Count]`.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

MOST = 65_536
"""The most channels, units or steps of one layer."""

DEEPEST = 2000
"""The most layers of a model: He et al. (2016) tried 1202."""

WIDEST = 64.0
"""The largest factor of a model's widths."""

Count = int
"""Channels, units, a stride, groups: from 1."""

Count0 = int
"""The same, or 0 for none."""

Layers = int
"""How many layers or blocks: from 1."""

Factor = float
"""Of widths: above 0."""


class Quantity(NamedTuple):
    """kind: of Python. one, many: its words in errors. least, most: its range. ranged: whether this is one
    that an error must say, and of which a list is not empty.
    """

    kind: type
    one: str
    many: str
    least: float = -math.inf
    most: float = math.inf
    ranged: bool = False

    def holds(self, value: Any) -> bool:
        """Whether a value is one of these. A whole number is a number, true and false are none."""
        if self.kind not in (int, float):
            return isinstance(value, self.kind)
        whole = isinstance(value, int) and not isinstance(value, bool)
        if not whole and not (self.kind is float and isinstance(value, float)):
            return False
        return bool(self.least <= value <= self.most)


def _ranged(kind: type, noun: str, least: float, most: float, text: str) -> Quantity:
    return Quantity(kind, f"a {noun} {text}", f"{noun}s {text}", least, most, ranged=True)


QUANTITIES: Mapping[str, Quantity] = {
    "float": Quantity(float, "a number", "numbers", -sys.float_info.max, sys.float_info.max),
    "int": Quantity(int, "a whole number", "whole numbers", -(2**63), 2**63 - 1),
    "bool": Quantity(bool, "true or false", "true or false"),
    "str": Quantity(str, "text", "text"),
    "Count": _ranged(int, "whole number", 1, MOST, f"from 1 to {MOST:,}"),
    "Count0": _ranged(int, "whole number", 0, MOST, f"from 0 to {MOST:,}"),
    "Layers": _ranged(int, "whole number", 1, DEEPEST, f"from 1 to {DEEPEST:,}"),
    "Factor": _ranged(float, "number", math.ulp(0), WIDEST, f"above 0 and up to {WIDEST:g}"),
}
"""By annotation. Other annotations are not checked."""
