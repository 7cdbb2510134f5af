"""From `family: cifar_resnet` to a call of its `build`, its arguments checked against the signature."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from types import ModuleType
from typing import Any, NamedTuple

from torch import nn

import kdrun.models
from kdrun.errors import KdrunError
from kdrun.models.draft import Draft

GIVEN = ("classes", "channels", "image_size", "native_size", "name", "stem", "pretrained", "normalisation")
"""What `build` may ask for and is given by the run; all other parameters are keys of `args`.

image_size is (H, W) as the network sees images, native_size as the data set has them; normalisation is what
the data set's images were normalised with, None if unknown.
"""

PLAIN = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "a word"}


class Family(NamedTuple):
    """A module's `build`, and the parameters it has."""

    name: str
    build: Callable[..., nn.Module | Draft]
    parameters: Mapping[str, inspect.Parameter]

    @property
    def arguments(self) -> dict[str, inspect.Parameter]:
        """The parameters that `args` may hold."""
        return {name: parameter for name, parameter in self.parameters.items() if name not in GIVEN}

    def call(self, args: Mapping[str, Any], given: Mapping[str, Any]) -> Draft:
        """Builds with `args` and with what of `given` the family asks for."""
        asked = {name: value for name, value in given.items() if name in self.parameters}
        made = self.build(**args, **asked)
        return made if isinstance(made, Draft) else Draft(made)


def find(name: str, key: str) -> Family:
    """The family's module: ours, or with a dotted name a user's. Raises KdrunError under `key`."""
    path = name if "." in name else f"kdrun.models.{name}"
    try:
        module = importlib.import_module(path)
    except ModuleNotFoundError as error:
        if error.name is not None and not f"{path}.".startswith(f"{error.name}."):
            raise
        raise KdrunError(key, name, "no such family of models", family_names()) from None
    if not _is_family(module):
        problem = f"{path} needs a function build(*, classes, channels, ...)"
        raise KdrunError(key, name, problem, () if "." in name else family_names())
    return Family(name, module.build, inspect.signature(module.build).parameters)


def check_arguments(family: Family, args: Mapping[str, Any], key: str) -> None:
    """Raises KdrunError below `key` for an argument that is unknown, missing or of the wrong kind."""
    known = family.arguments
    for name, value in args.items():
        if name not in known:
            raise KdrunError(f"{key}.{name}", None, f"{family.name} has no such argument", known)
        needed = _needed(value, known[name].annotation)
        if needed:
            raise KdrunError(f"{key}.{name}", "null" if value is None else value, f"{needed} is needed")
    for name, parameter in known.items():
        if parameter.default is parameter.empty and name not in args:
            raise KdrunError(f"{key}.{name}", None, f"{family.name} needs it")


def family_names() -> list[str]:
    """The families that come with kdrun; imports their modules."""
    modules = ((m.name, importlib.import_module(f"kdrun.models.{m.name}")) for m in _submodules())
    return [name for name, module in modules if _is_family(module)]


def _submodules() -> Iterator[pkgutil.ModuleInfo]:
    return pkgutil.iter_modules(kdrun.models.__path__)


def _is_family(module: ModuleType) -> bool:
    build = getattr(module, "build", None)
    return callable(build) and {"classes", "channels"} <= set(inspect.signature(build).parameters)


def _needed(value: Any, annotation: Any) -> str | None:
    """What an annotation (a string: families postpone them) wants, in words, unless the value is that."""
    text = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "")
    item = text.removeprefix("list[").removesuffix("]") if text.startswith("list[") else None
    if item in PLAIN:
        fits = isinstance(value, (list, tuple)) and all(_is(v, item) for v in value)
        return None if fits else f"a list, each {PLAIN[item]},"
    return PLAIN[text] if text in PLAIN and not _is(value, text) else None


def _is(value: Any, kind: str) -> bool:
    if kind in ("int", "float"):
        number = (int, float) if kind == "float" else int
        return isinstance(value, number) and not isinstance(value, bool)
    return isinstance(value, bool if kind == "bool" else str)
