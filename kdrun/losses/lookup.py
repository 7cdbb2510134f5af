"""From `{name: dkd, beta: 2}` to a loss: `dkd` is the module `kdrun.losses.dkd`, a dotted name a user's."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any, get_origin

import kdrun.losses
from kdrun.errors import KdrunError
from kdrun.losses.base import Loss
from kdrun.schedule import Schedule

PLAIN: Mapping[Any, str] = {
    float: "a number",
    int: "a whole number",
    bool: "true or false",
    str: "a name",
    Sequence[float]: "a list of numbers",
}


def find(name: str, key: str) -> type[Loss]:
    """The one public Loss of the module that `name` stands for. Raises KdrunError under `key`."""
    path = name if "." in name else f"kdrun.losses.{name}"
    try:
        module = importlib.import_module(path)
    except ModuleNotFoundError as error:
        if error.name is not None and not f"{path}.".startswith(f"{error.name}."):
            raise
        raise KdrunError(key, name, "no such loss", _names(), "kdrun list losses") from None
    found = _losses(module)
    if len(found) != 1:
        problem = f"{path} must have one public Loss; it has {len(found)}"
        raise KdrunError(key, name, problem, () if "." in name else _names())
    return found[0]


def arguments_of(cls: type[Loss]) -> dict[str, inspect.Parameter]:
    """The constructor's arguments by name: the keys that its YAML may have, besides `name` and `weight`."""
    parameters = inspect.signature(cls, eval_str=True).parameters
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)  # of nn.Module itself
    return {name: parameter for name, parameter in parameters.items() if parameter.kind not in variadic}


def construct(cls: type[Loss], arguments: Mapping[str, Any], key: str) -> Loss:
    """The loss with these arguments, checked against its signature. Raises KdrunError below `key`."""
    parameters = arguments_of(cls)
    for name, value in arguments.items():
        if name not in parameters:
            raise KdrunError(f"{key}.{name}", None, f"{cls.__name__} has no such argument", parameters)
        if not _fits(value, parameters[name].annotation):
            kind = PLAIN[parameters[name].annotation]
            raise KdrunError(f"{key}.{name}", "null" if value is None else value, f"{kind} is needed")
    for name, parameter in parameters.items():
        if parameter.default is parameter.empty and name not in arguments:
            raise KdrunError(f"{key}.{name}", None, f"{cls.__name__} needs it")
    try:
        return cls(**arguments)
    except KdrunError as error:
        raise below(key, error) from None


def schedules(cls: type[Loss], arguments: Mapping[str, Any], key: str) -> dict[str, Schedule]:
    """Those arguments that are written as schedules. Raises KdrunError where the argument is no number."""
    numbers = {name for name, parameter in arguments_of(cls).items() if parameter.annotation is float}
    return {
        name: Schedule.parse(value, f"{key}.{name}")
        for name, value in arguments.items()
        if isinstance(value, Mapping) and name in numbers
    }


def below(key: str, error: KdrunError) -> KdrunError:
    """The same error with its key below another: `temperature` becomes `loss.soft.temperature`."""
    inner, value, problem, choices, more = error.args
    return KdrunError(f"{key}.{inner}", value, problem, choices, more)


def _fits(value: Any, annotation: Any) -> bool:
    if annotation is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if annotation is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if annotation == Sequence[float]:
        return isinstance(value, (list, tuple)) and all(_fits(each, float) for each in value)
    return isinstance(value, annotation) if annotation in (bool, str) else True


def _losses(module: ModuleType) -> list[type[Loss]]:
    """The public losses that a module defines. To Python 3.10 an alias such as `list[float]` is a type."""
    types = {name: thing for name, thing in vars(module).items() if isinstance(thing, type)}
    return [
        thing
        for name, thing in types.items()
        if get_origin(thing) is None and issubclass(thing, Loss) and not inspect.isabstract(thing)
        if thing.__module__ == module.__name__ and not name.startswith("_")
    ]


def _names() -> list[str]:
    """Names of all shipped losses; imports them, so for errors only."""
    names = [module.name for module in pkgutil.iter_modules(kdrun.losses.__path__)]
    return [name for name in names if _losses(importlib.import_module(f"kdrun.losses.{name}"))]
