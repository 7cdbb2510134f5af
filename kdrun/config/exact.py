"""Plain values as dataclasses, if each has exactly the type of its field.

OmegaConf converts and refuses the rest. It takes far longer, which counts if thousands of jobs are checked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

PLAIN = (int, float, str, bool, NoneType)


class Inexact(Exception):
    """A value that OmegaConf would convert, resolve or refuse."""


def exact(kind: Any, value: Any) -> Any:
    """The value as one of the type `kind`. Raises Inexact."""
    return _reader(kind)(value)


@cache
def _reader(kind: Any) -> Callable[[Any], Any]:
    if kind is Any:
        return _anything
    if kind in PLAIN:
        return lambda value: _plain(kind, value)
    if isinstance(kind, type) and is_dataclass(kind):
        return lambda value: _fields(kind, value)
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType) and len(inner) == 2 and inner[1] is NoneType:
        given = _reader(inner[0])
        return lambda value: None if value is None else given(value)
    if origin is list:
        return lambda value: _list(_reader(inner[0]), value)
    if origin is dict and inner[0] is str:
        return lambda value: _dict(_reader(inner[1]), value)
    raise Inexact


def _plain(kind: Any, value: Any) -> Any:
    if type(value) is not kind and not (kind is float and type(value) is int):
        raise Inexact
    if kind is str and ("${" in value or value == "???"):
        raise Inexact
    return float(value) if kind is float else value


def _anything(value: Any) -> Any:
    if type(value) is list:
        return _list(_anything, value)
    if type(value) is dict:
        return _dict(_anything, value)
    if type(value) not in PLAIN:
        raise Inexact
    return _plain(type(value), value)


def _list(inner: Callable[[Any], Any], value: Any) -> list[Any]:
    if type(value) is not list:
        raise Inexact
    return [inner(item) for item in value]


def _dict(inner: Callable[[Any], Any], value: Any) -> dict[str, Any]:
    if type(value) is not dict or not all(type(key) is str for key in value):
        raise Inexact
    return {key: inner(item) for key, item in value.items()}


def _fields(kind: Any, value: Any) -> Any:
    known = types_of(kind)
    if not isinstance(value, Mapping) or not value.keys() <= known.keys():
        raise Inexact
    made = kind(**{key: _reader(known[key])(item) for key, item in value.items()})
    if any(getattr(made, key) == "???" for key in known.keys() - value.keys()):
        raise Inexact
    return made


@cache
def types_of(kind: Any) -> dict[str, Any]:
    """The fields of a dataclass with their types."""
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in fields(kind)}
