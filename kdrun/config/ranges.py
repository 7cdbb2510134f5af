"""Checks of single values, and values as errors show them."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from kdrun.errors import KdrunError
from kdrun.figures import as_typed
from kdrun.lookup import refuse_unlisted
from kdrun.schedule import Schedule


def require(
    holds: object, key: str, value: Any, problem: str, choices: Iterable[str] = (), more: str = ""
) -> None:
    """Raises KdrunError unless a condition holds."""
    if not holds:
        raise KdrunError(key, value, problem, choices, more)


def one_of(key: str, value: Any, choices: Collection[str]) -> None:
    """Raises KdrunError unless the value is one of the choices."""
    require(value in choices, key, value, "no such choice", choices)


def texts(key: str, values: Collection[Any]) -> None:
    """Raises KdrunError for a name that YAML reads as something else than text."""
    for value in values:
        require(isinstance(value, str), key, as_typed(value), "a name is needed")


def at_least(key: str, value: float, least: int) -> None:
    """Raises KdrunError for a number below `least`, infinity or NaN."""
    require(least <= value < math.inf, key, value, f"must be {least} or more")


def whole(value: Any, least: int) -> bool:
    """Whether a value is a whole number from `least` on."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def auto_or_whole(key: str, value: Any, least: int) -> None:
    """Raises KdrunError unless the value is `auto` or a whole number from `least` on."""
    fits = value == "auto" or whole(value, least)
    require(fits, key, value, f"must be auto or a whole number from {least}")


def share(value: Any) -> bool:
    """Whether a value is a fraction above 0 and below 1."""
    return isinstance(value, float) and 0 < value < 1


def number(value: Any) -> bool:
    """Whether a value is a finite number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def above_zero(value: Any, key: str) -> None:
    """Raises KdrunError unless a number, or a schedule at both ends, is above 0."""
    schedule = Schedule.parse(value, key)
    require(min(schedule.start, schedule.end) > 0, key, shown(value), "must be above 0")


def listed(values: Collection[Any]) -> str:
    """Values as a list for errors: `[a,b]`."""
    return f"[{','.join(map(str, values))}]"


def shown(value: Any) -> str:
    """A value for errors, a mapping as `{a: 1}`."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {item}" for key, item in value.items()) + "}"
    return str(value)


def refuse_unlisted_name(name: Any, key: str, packages: Collection[str]) -> None:
    """Raises KdrunError for a name with dots, which is a user's module, that is in no listed package."""
    require(isinstance(name, str) and name, key, name, "a name is needed")
    if "." in name:
        refuse_unlisted(name, key, name, packages)


def refuse_unlisted_class(name: Any, key: str, packages: Collection[str]) -> None:
    """The same for `module:Class`, even if the module has no dot."""
    if name is not None:
        refuse_unlisted(str(name).partition(":")[0], key, str(name), packages)
