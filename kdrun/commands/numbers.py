"""Numbers behind flags."""

from __future__ import annotations

import math

from kdrun.errors import KdrunError


def temperatures(text: str) -> list[float]:
    """`1,4,20` as numbers above 0. Raises KdrunError."""
    try:
        values = [float(part) for part in text.strip("[]").split(",")]
    except ValueError:
        values = []
    if not values or not all(value > 0 and math.isfinite(value) for value in values):
        raise KdrunError("--temperature", text, "must be numbers above 0, as 1,4,20")
    return list(dict.fromkeys(values))


def whole(flag: str, text: str) -> int:
    """A whole number from 1. Raises KdrunError."""
    if not text.isdecimal() or int(text) < 1:
        raise KdrunError(flag, text, "must be a whole number from 1")
    return int(text)


def numbers(flag: str, text: str) -> list[int]:
    """`3,17` as whole numbers from 0. Raises KdrunError."""
    parts = text.strip("[]").split(",")
    if not all(part.strip().isdecimal() for part in parts):
        raise KdrunError(flag, text, "must be whole numbers, as 3,17")
    return [int(part) for part in parts]
