"""Nested mappings, such as configurations and reports."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def leaves(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """All values by their dotted keys, such as `recipe.student.epochs`.

    A list of mappings with a `name` gives its names under its key, and each mapping below its position:
    `assistant`, `assistant.0.seed`.
    """
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{above}{key}.")
        elif isinstance(value, list) and all(isinstance(item, Mapping) and "name" in item for item in value):
            yield f"{above}{key}", [item["name"] for item in value]
            for position, item in enumerate(value):
                yield from leaves(item, f"{above}{key}.{position}.")
        else:
            yield f"{above}{key}", value
