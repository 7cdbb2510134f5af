"""Nested mappings, such as configurations and reports."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def leaves(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """All values by their dotted keys, such as `recipe.student.epochs`. A list of mappings with a `name`
    gives its names under its key, and each mapping below its position: `assistant`, `assistant.0.seed`.
    """
    left = [(f"{above}{key}", value) for key, value in reversed(dict(values).items())]
    while left:
        key, value = left.pop()
        if isinstance(value, dict):
            left += [(f"{key}.{name}", inner) for name, inner in reversed(value.items())]
        elif isinstance(value, list) and all(isinstance(item, dict) and "name" in item for item in value):
            yield key, [item["name"] for item in value]
            for position, item in reversed(list(enumerate(value))):
                left += [(f"{key}.{position}.{name}", inner) for name, inner in reversed(item.items())]
        else:
            yield key, value


def places(value: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """All values that are no containers, each with the keys, and positions in lists, that lead to it."""
    if isinstance(value, (Mapping, list, tuple)):
        inside = value.items() if isinstance(value, Mapping) else enumerate(value)
        for part, inner in inside:
            yield from places(inner, (*above, part))
    else:
        yield above, value
