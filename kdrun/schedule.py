"""A number that can change over the epochs, as a pure function of progress."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from kdrun.errors import KdrunError

SHAPES = ("linear", "cosine", "step")
KEYS = ("from", "to", "epochs", "shape")

NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
SHORT = re.compile(rf"({NUMBER})\.\.({NUMBER})@({NUMBER})(?::({'|'.join(SHAPES)}))?")
"""`0.9..0@40`: from 0.9 to 0 in 40 epochs; `0.9..0@40:cosine`."""

WRITTEN = "FROM..TO@EPOCHS, {from, to, epochs, shape}"
PIECE = re.compile(rf"({'|'.join(KEYS)}):.*")
"""What a shell makes of a mapping without quotes: `{from:0,to:1}` becomes two words."""
QUOTED = "'KEY={from: 0, to: 1, epochs: 20}'"


class Schedule(NamedTuple):
    """A number that goes from `start` to `end` within `epochs` and then stays there.

    shape: linear; cosine (half a period, flat at both ends); step (`start` for `epochs` epochs, then `end`).
    """

    start: float
    end: float
    epochs: float = 1.0
    shape: str = "linear"

    @classmethod
    def parse(cls, value: Any, key: str) -> Schedule:
        """A schedule from a plain number or from `{from, to, epochs, shape}`; the default shape is linear.
        Raises KdrunError under `key`, the full configuration key.
        """
        if not isinstance(value, Mapping):
            problem = f"a number, or a schedule ({WRITTEN}), is needed"
            if PIECE.fullmatch(str(value)):
                problem += f". This looks like a piece of a mapping that the shell split; quote it: {QUOTED}"
            number = _number(value, key, problem.replace("KEY", key))
            return cls(number, number)
        for unknown in value:
            if unknown not in KEYS:
                raise KdrunError(f"{key}.{unknown}", None, "a schedule has no such key", KEYS)
        for required in KEYS[:3]:
            if value.get(required) is None:
                problem = "is missing: a schedule is {from, to, epochs, shape}"
                raise KdrunError(f"{key}.{required}", None, problem)
        shape = value.get("shape", "linear")
        if shape not in SHAPES:
            raise KdrunError(f"{key}.shape", shape, "no such shape", SHAPES)
        start, end, epochs = (_number(value[k], f"{key}.{k}", "a number is needed") for k in KEYS[:3])
        if epochs <= 0:
            raise KdrunError(f"{key}.epochs", value["epochs"], "must be above 0")
        return cls(start, end, epochs, shape)

    def at(self, epoch: float) -> float:
        """The number after `epoch` epochs have passed (0 before the first; fractions count)."""
        progress = min(max(epoch / self.epochs, 0.0), 1.0)
        if self.shape == "step":
            progress = float(progress >= 1.0)
        elif self.shape == "cosine":
            progress = (1.0 - math.cos(math.pi * progress)) / 2.0
        return self.end if progress == 1.0 else self.start + (self.end - self.start) * progress

    @property
    def constant(self) -> bool:
        """Whether the number never changes."""
        return self.start == self.end

    @property
    def zero(self) -> bool:
        """Whether the number is always 0."""
        return self.start == 0.0 and self.end == 0.0

    def __str__(self) -> str:
        if self.constant:
            return f"{self.start:g}"
        unit = "epoch" if self.epochs == 1 else "epochs"
        how = "in" if self.shape != "step" else "after"
        shape = ", cosine" if self.shape == "cosine" else ""
        return f"{self.start:g} -> {self.end:g} {how} {self.epochs:g} {unit}{shape}"


def _number(value: Any, key: str, problem: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise KdrunError(key, "null" if value is None else value, problem)
    return float(value)


def unfolded(value: Any) -> Any:
    """The value with each text `0.9..0@40`, also inside mappings, as `{from: 0.9, to: 0.0, epochs: 40.0}`."""
    if isinstance(value, Mapping):
        return {key: unfolded(inner) for key, inner in value.items()}
    short = SHORT.fullmatch(value) if isinstance(value, str) else None
    if short is None:
        return value
    *numbers, shape = short.groups()
    return dict(zip(KEYS, [*map(float, numbers), shape or SHAPES[0]], strict=True))
