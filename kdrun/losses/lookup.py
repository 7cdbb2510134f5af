"""From `{name: dkd, beta: 2}` to a loss: `dkd` is the module `kdrun.losses.dkd`, `a.b` the user's module."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping
from contextlib import nullcontext
from types import ModuleType
from typing import Any

import kdrun.lookup as lookup
from kdrun.errors import KdrunError
from kdrun.losses.base import Loss
from kdrun.schedule import Schedule
from kdrun.users_code import is_users, one_line


def _losses(module: ModuleType) -> list[type[Loss]]:
    return [thing for thing in _classes(module) if not inspect.isabstract(thing)]


def _classes(module: ModuleType) -> list[type[Loss]]:
    """The public subclasses of Loss that a module defines, also those that lack methods."""
    return [
        thing
        for name, thing in vars(module).items()
        if lookup.is_class(thing) and issubclass(thing, Loss)
        if thing.__module__ == module.__name__ and not name.startswith("_")
    ]


LOSSES = lookup.Room("kdrun.losses", "loss", _losses, "one public Loss", "kdrun list losses")


def find(name: str, key: str) -> type[Loss]:
    """The one public Loss of the module `name`. Raises KdrunError under `key`."""
    try:
        return lookup.find(LOSSES, name, key)
    except KdrunError as error:
        if "." in name and (unfinished := _unfinished(name)):
            raise KdrunError(key, name, unfinished) from error
        raise


def _unfinished(name: str) -> str:
    """Which methods the only public Loss of a user's module lacks, in words; empty if it lacks none."""
    module = sys.modules[name] if name in sys.modules else ModuleType(name)
    own = _classes(module)
    if len(own) != 1 or not inspect.isabstract(own[0]):
        return ""
    lacking, needed = (", ".join(sorted(each.__abstractmethods__)) for each in (own[0], Loss))
    return f"{own[0].__name__} lacks {lacking}; a loss needs {needed}"


def arguments_of(cls: type[Loss]) -> lookup.Parameters:
    """The constructor's arguments by name: the keys of its YAML besides `name` and `weight`."""
    return lookup.parameters(cls, besides=("args", "kwargs"))  # which are those of nn.Module itself


def construct(cls: type[Loss], arguments: Mapping[str, Any], key: str) -> Loss:
    """The loss with these arguments, checked against its signature. Raises KdrunError below `key`."""
    lookup.check_arguments(cls.__name__, arguments_of(cls), arguments, key)
    try:
        with one_line(key) if is_users(cls) else nullcontext():
            return cls(**arguments)
    except KdrunError as error:
        raise (error if error.key == key else error.below(key)) from error.__cause__


def schedules(cls: type[Loss], arguments: Mapping[str, Any], key: str) -> dict[str, Schedule]:
    """The numbers among the arguments that are written as schedules. Raises KdrunError."""
    numbers = {name for name, parameter in arguments_of(cls).items() if lookup.kinds(parameter) == ["float"]}
    return {
        name: Schedule.parse(value, f"{key}.{name}")
        for name, value in arguments.items()
        if isinstance(value, Mapping) and name in numbers
    }
