"""Checks plain values, as read from JSON, against the fields and types of a TypedDict."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from types import UnionType
from typing import Any, Literal, TypedDict, Union, get_args, get_origin, get_type_hints, is_typeddict


def wrong_fields(value: Any, wanted: Any, path: str = "") -> Iterator[str]:
    """A phrase for each difference: `models.student.params is text`. Further keys are allowed. wanted: a
    TypedDict, a plain type, `list[...]`, `dict[str, ...]`, a union, a Literal, or Any.
    """
    kind, inner = _parts(wanted)
    if kind is TypedDict and isinstance(value, Mapping):
        required, fields = inner
        for name in sorted(required - value.keys()):
            yield f"lacks {_below(path, name)}"
        for name, field in fields:
            if name in value:
                yield from wrong_fields(value[name], field, _below(path, name))
    elif kind is list and isinstance(value, list):
        for position, item in enumerate(value if inner[0] is not Any else ()):
            yield from wrong_fields(item, inner[0], f"{path}[{position}]")
    elif kind is dict and isinstance(value, Mapping):
        for name, item in value.items() if inner[1] is not Any else ():
            yield from wrong_fields(item, inner[1], _below(path, name))
    elif not _fits(value, wanted, kind, inner):
        yield f"{path or 'the content'} is {_shown(value)}"


@cache
def _parts(wanted: Any) -> tuple[Any, Any]:
    """The kind of a type, and its parts: required names and fields of a TypedDict, else the types in []."""
    if is_typeddict(wanted):
        return TypedDict, (wanted.__required_keys__, tuple(get_type_hints(wanted).items()))
    return get_origin(wanted), get_args(wanted)


def _fits(value: Any, wanted: Any, kind: Any, inner: tuple[Any, ...]) -> bool:
    """Whether a value without fields has a type."""
    if kind is Literal:
        return value in inner
    if kind in (Union, UnionType):
        return any(not any(wrong_fields(value, each)) for each in inner)
    if wanted is Any:
        return True
    if kind is not None:
        return False
    if isinstance(value, bool):
        return wanted is bool
    return isinstance(value, (int, float) if wanted is float else wanted)


def _below(path: str, name: Any) -> str:
    return f"{path}.{name}" if path else str(name)


def _shown(value: Any) -> str:
    """A value in at most 30 characters."""
    if isinstance(value, (Mapping, list)):
        return "an object" if isinstance(value, Mapping) else "a list"
    text = repr(value)
    return text if len(text) <= 30 else f"{text[:27]}..."
