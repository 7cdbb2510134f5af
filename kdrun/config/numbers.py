"""Numbers that no key can mean: not finite, or too large to count with."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from kdrun.errors import KdrunError

LARGEST = 1e15
"""The largest number, of either sign, that is computed with."""

SEED = re.compile(r"(^|[._])seed$|\.split$")
MOST_SEED = 2**63 - 1

MOST = {
    r"threads|runtime\.(jobs|workers)": 4096,
    r"generations": 1000,
    r".*_gb": 1e9,
    r"(teacher|student|assistant\.\d+)\.args\..*": 2**20,
    r"(phase_one\.)?loss\..*": 1e9,
    r"recipe\..*\.(epochs|batch|milestones\.\d+)|controls\.longer_epochs": 10**9,
}
"""The most that some keys can mean; the whole key must match."""


def refuse_unusable(config: Mapping[str, Any]) -> None:
    """Raises KdrunError for the first number that is not finite, or too large for its key."""
    for key, value in numbers(config):
        if not math.isfinite(value):
            raise KdrunError(key, value, "must be a finite number")
        most = most_of(key)
        if abs(value) > most:
            raise KdrunError(key, _short(value), f"is too large: at most {_short(most)}")


@lru_cache(4096)
def most_of(key: str) -> float:
    """The largest size of a number that the key can have."""
    if SEED.search(key):
        return MOST_SEED
    return next((most for pattern, most in MOST.items() if re.fullmatch(pattern, key)), LARGEST)


def numbers(value: Any, key: str = "") -> Iterator[tuple[str, int | float]]:
    """All numbers of nested values by their keys, plain keys before nested ones, which may take their values.

    Entries of lists are counted from 0.
    """
    if isinstance(value, Mapping):
        for name, inner in sorted(value.items(), key=_nested):
            yield from numbers(inner, f"{key}.{name}" if key else str(name))
    elif isinstance(value, (list, tuple)):
        for place, inner in enumerate(value):
            yield from numbers(inner, f"{key}.{place}")
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield key, value


def _nested(item: tuple[Any, Any]) -> bool:
    return isinstance(item[1], (Mapping, list, tuple))


def _short(value: float) -> str:
    """A number in at most 20 characters."""
    text = str(value)
    return text if len(text) <= 20 else f"{text[0]}.{text[1:3]}e{len(text) - 1}"
