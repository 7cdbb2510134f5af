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
    return [
        thing
        for name, thing in vars(module).items()
        if lookup.is_class(thing) and issubclass(thing, Loss) and not inspect.isabstract(thing)
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
    """Which methods a user's only public Loss lacks, in words; empty if it is not that."""
    module = sys.modules.get(name)
    own = [
        thing
        for name, thing in vars(module).items()
        if lookup.is_class(thing) and issubclass(thing, Loss) and thing.__module__ == module.__name__
        if not name.startswith("_")
    ] if module else []
    if len(own) != 1 or not inspect.isabstract(own[0]):
        return ""
    lacking = sorted(own[0].__abstractmethods__)
    return f"the class {own[0].__name__} lacks {listed(lacking)}: a Loss needs {listed(sorted(Loss.__abstractmethods__))}"


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
