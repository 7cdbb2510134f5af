"""Finds losses, models, sources, evaluators and engines by name, and checks arguments against signatures.

A plain name is a module of kdrun (`dkd` is `kdrun.losses.dkd`), a dotted name a module of the user.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any, Generic, TypeVar

from kdrun.errors import KdrunError
from kdrun.quantities import DEEPEST, QUANTITIES, Quantity
from kdrun.users_code import one_line

Thing = TypeVar("Thing")

VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)

Parameters = Mapping[str, inspect.Parameter]


@dataclass(frozen=True)
class Room(Generic[Thing]):
    """A package whose modules each hold one thing, which has the module's name. noun: its name in errors.
    things: returns those of a module. needs: a phrase for the thing. more: a command that shows all names.
    """

    package: str
    noun: str
    things: Callable[[ModuleType], Sequence[Thing]]
    needs: str
    more: str = ""

    def names(self) -> list[str]:
        """The modules of the package that hold one thing. For errors only, since it imports all of them."""
        package = importlib.import_module(self.package)
        modules = (entry.name for entry in pkgutil.iter_modules(package.__path__))
        return [
            name
            for name in modules
            if len(self.things(importlib.import_module(f"{self.package}.{name}"))) == 1
        ]


def find(room: Room[Thing], name: str, key: str) -> Thing:
    """The thing with this name. Raises KdrunError under `key`."""
    own = "." in name
    path = name if own else f"{room.package}.{name}"
    with one_line(key, name) if own else nullcontext():
        module = imported(path)
    if module is None:
        choices, more = ([], "") if own else (room.names(), room.more)
        raise KdrunError(key, name, f"no such {room.noun}", choices, more)
    things = room.things(module)
    if len(things) != 1:
        problem = f"the module must have {room.needs}; it has {len(things) or 'none'}"
        raise KdrunError(key, name, problem, () if own else room.names())
    return things[0]


def imported(path: str) -> ModuleType | None:
    """The module with this dotted path, None if there is none. An error inside the module is raised."""
    if not all(part.isidentifier() for part in path.split(".")):
        return None
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{path}.".startswith(f"{error.name}."):
            raise
        return None


def is_listed(path: str, packages: Iterable[str]) -> bool:
    """Whether a module is in one of these packages."""
    return any(f"{path}.".startswith(f"{package}.") for package in packages)


def refuse_unlisted(path: str, key: str, value: str, packages: Iterable[str]) -> None:
    """Raises KdrunError if a module of the user is in none of the listed packages."""
    if not all(part.isidentifier() for part in path.split(".")):
        raise KdrunError(key, value, "is no name of a module, such as mine.losses")
    if not is_listed(path, packages):
        problem = f"your own code must be in a package that you list: packages=[{path.partition('.')[0]}]"
        raise KdrunError(key, value, problem)


def parameters(call: Callable[..., Any], besides: Collection[str] = ()) -> Parameters:
    """The parameters of a function or class by name, without *args; any name if Python does not know its
    signature. besides: names to leave out.
    """
    try:
        signature = _signature(call)
    except ValueError:
        return {"rest": inspect.Parameter("rest", inspect.Parameter.VAR_KEYWORD)}
    return {
        name: parameter
        for name, parameter in signature.parameters.items()
        if name not in besides and parameter.kind is not parameter.VAR_POSITIONAL
    }


@cache
def _signature(call: Callable[..., Any]) -> inspect.Signature:
    return inspect.signature(call)


def check_arguments(
    owner: str, known: Parameters, arguments: Mapping[str, Any], key: str, others: Iterable[str] = ()
) -> None:
    """Raises KdrunError below `key` for an argument that is unknown, missing or of the wrong type; only
    numbers, text, booleans and lists of these are checked. owner: the function with the parameters `known`,
    for errors. others: further keys that are allowed. A parameter **rest accepts any name.
    """
    named = {name: parameter for name, parameter in known.items() if parameter.kind not in VARIADIC}
    for name, value in arguments.items():
        if name in named:
            _check_type(value, named[name], f"{key}.{name}")
        elif len(named) == len(known):
            raise KdrunError(f"{key}.{name}", None, f"{owner} has no such argument", [*named, *others])
    for name, parameter in named.items():
        if parameter.default is parameter.empty and name not in arguments:
            raise KdrunError(f"{key}.{name}", None, f"{owner} needs it")


def kinds(parameter: inspect.Parameter) -> list[str]:
    """The types of a parameter's annotation, `int | None` as `int` and `None`: text, since an annotation can
    name a type that cannot be imported at run time.
    """
    annotation = parameter.annotation
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    return [kind.strip() for kind in text.split("|")]


def is_class(value: object) -> bool:
    """Whether a value is a class. `list[int]` claims to be one on Python 3.10."""
    return issubclass(type(value), type)


def _check_type(value: Any, parameter: inspect.Parameter, key: str) -> None:
    wanted = kinds(parameter)
    if value is None and (parameter.default is None or "None" in wanted):
        return
    known = [_quantity(kind) for kind in wanted if kind != "None"]
    if all(quantity for quantity, _ in known) and not any(_fits(value, *each) for each in known):
        words = [f"a list of {each.many}" if listed else each.one for each, listed in known if each]
        needed = f"{' or '.join(words)} is needed" + (" (or null)" if "None" in wanted else "")
        raise KdrunError(key, "null" if value is None else value, needed)


def _quantity(kind: str) -> tuple[Quantity | None, bool]:
    """What a type holds, None if it is not checked, and whether it is a list of these: `Sequence[int]`."""
    name, bracket, rest = kind.removeprefix("collections.abc.").removeprefix("typing.").partition("[")
    if bracket and name in ("list", "List", "Sequence"):
        return QUANTITIES.get(rest.removesuffix("]")), True
    return QUANTITIES.get(kind), False


def _fits(value: Any, quantity: Quantity | None, listed: bool) -> bool:
    if quantity is None or not listed:
        return quantity is not None and quantity.holds(value)
    if not isinstance(value, (list, tuple)) or (quantity.ranged and not 0 < len(value) <= DEEPEST):
        return False
    return all(quantity.holds(item) for item in value)
