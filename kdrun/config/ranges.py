"""Checks of single values, and values as errors show them."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

from kdrun.errors import KdrunError
from kdrun.figures import as_typed
from kdrun.lookup import refuse_unlisted
from kdrun.schedule import Schedule


def one_of(key: str, value: Any, choices: tuple[str, ...]) -> None:
    """Raises KdrunError unless the value is one of the choices."""
    if value not in choices:
        raise KdrunError(key, value, "no such choice", choices)


def texts(key: str, values: Collection[Any]) -> None:
    """Raises KdrunError for a name that YAML reads as something else than text."""
    for value in values:
        if not isinstance(value, str):
            raise KdrunError(key, as_typed(value), "a name is needed")


def at_least(key: str, value: float, least: int) -> None:
    """Raises KdrunError for a number below `least`, infinity or NaN."""
    if not least <= value < math.inf:
        raise KdrunError(key, value, f"must be {least} or more")


def whole(value: Any, least: int) -> bool:
    """Whether a value is a whole number from `least` on."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def number(value: Any) -> bool:
    """Whether a value is a finite number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def above_zero(value: Any, key: str) -> None:
    """Raises KdrunError unless a number, or a schedule at both ends, is above 0."""
    schedule = Schedule.parse(value, key)
    if min(schedule.start, schedule.end) <= 0:
        raise KdrunError(key, shown(value), "must be above 0")


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
    if not isinstance(name, str) or not name:
        raise KdrunError(key, name, "a name is needed")
    if "." in name:
        refuse_unlisted(name, key, name, packages)


def refuse_unlisted_class(name: Any, key: str, packages: Collection[str]) -> None:
    """The same for `module:Class`, even if the module has no dot."""
    if name is not None:
        refuse_unlisted(str(name).partition(":")[0], key, str(name), packages)
