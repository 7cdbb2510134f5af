"""Mappings, such as configurations and reports: the values of nested ones, the known ones, items by a key."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

Key = TypeVar("Key", bound=Hashable)
Item = TypeVar("Item")


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


def known(values: Mapping[Key, Item | None]) -> dict[Key, Item]:
    """The values that are not None."""
    return {key: value for key, value in values.items() if value is not None}


def grouped(items: Iterable[Item], key: Callable[[Item], Key]) -> dict[Key, list[Item]]:
    """The items by a key of each, in the order in which they come."""
    groups: dict[Key, list[Item]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups
