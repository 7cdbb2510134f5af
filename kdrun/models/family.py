"""From `family: cifar_resnet` to a call of its `build`, its arguments checked against the signature."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, NamedTuple

from torch import nn

import kdrun.lookup as lookup

GIVEN = ("classes", "channels", "image_size", "native_size", "name", "stem", "pretrained", "normalisation")
"""Parameters of `build` that the run gives; all others are keys of `args`.

image_size is (H, W) as the network sees images, native_size as the data set has them; normalisation is what
the data set's images were normalised with, None if unknown.
"""


class Draft(NamedTuple):
    """A model as its family made it. notes: what the screen must say of it. head_is_new: whether a part that
    pretrained weights should fill has none.
    """

    model: nn.Module
    notes: tuple[str, ...] = ()
    head_is_new: bool = False


class TooSmall(ValueError):
    """Images are too small for a network whose layers depend on their size."""


class Family(NamedTuple):
    """A module's `build`, and the parameters it has."""

    name: str
    build: Callable[..., nn.Module | Draft]
    parameters: lookup.Parameters

    @property
    def arguments(self) -> dict[str, inspect.Parameter]:
        """The parameters that `args` may hold."""
        return {name: parameter for name, parameter in self.parameters.items() if name not in GIVEN}

    def call(self, args: Mapping[str, Any], given: Mapping[str, Any]) -> Draft:
        """Builds with `args` and with those of `given` that are parameters."""
        wanted = {name: value for name, value in given.items() if name in self.parameters}
        made = self.build(**args, **wanted)
        return made if isinstance(made, Draft) else Draft(made)


def _builds(module: ModuleType) -> list[Callable[..., nn.Module | Draft]]:
    build = getattr(module, "build", None)
    is_family = callable(build) and {"classes", "channels"} <= set(lookup.parameters(build))
    return [build] if is_family else []  # type: ignore[list-item]


FAMILIES = lookup.Room(
    "kdrun.models", "family of models", _builds, "a function build(*, classes, channels, ...)"
)


def find(name: str, key: str) -> Family:
    """The family of the module that `name` stands for. Raises KdrunError under `key`."""
    build = lookup.find(FAMILIES, name, key)
    return Family(name, build, lookup.parameters(build))
