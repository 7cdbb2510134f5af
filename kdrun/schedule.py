"""A number that can change over the epochs, as a pure function of progress."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from kdrun.errors import KdrunError

SHAPES = ("linear", "cosine", "step")
KEYS = ("from", "to", "epochs", "shape")


class Schedule(NamedTuple):
    """A number that goes from `start` to `end` within `epochs` and then stays there.

    shape: linear; cosine (half a period, flat at both ends); step (`start` until `epochs` have passed, then
    `end`).
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
            number = _number(value, key, "a number, or {from, to, epochs, shape}, is needed")
            return cls(number, number)
        for unknown in value:
            if unknown not in KEYS:
                raise KdrunError(f"{key}.{unknown}", None, "a schedule has no such key", KEYS)
        for required in KEYS[:3]:
            if value.get(required) is None:
                raise KdrunError(
                    f"{key}.{required}", None, "is missing: a schedule is {from, to, epochs, shape}"
                )
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
