"""Recipes: which one `auto` takes, and which of a recipe's numbers a model gets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from kdrun.errors import KdrunError

AUTO = "auto"
BY_FAMILY = {"wrn": "crd", "cifar_": "crd"}
"""The recipe of the families whose name begins so; all others take `quick`."""
OTHERWISE = "quick"
REQUIRED = ("epochs", "batch", "optimiser", "lr")

Written = Mapping[str, Any]
Read = Callable[[str], Mapping[str, Written]]
"""Reads a recipe by name: `{teacher: {...}, student: {...}}`. Raises KdrunError for a name that is none."""


def resolve(
    recipe: Mapping[str, Written], dataset: Written, models: Mapping[str, Written], read: Read
) -> dict[str, Any]:
    """Both recipes as plain numbers, and `reasons`, why `auto` took what it took.

    recipe, models: by role (`teacher`, `student`). What is written there beats what `auto` took.
    """
    reasons: dict[str, str] = {}
    resolved: dict[str, Any] = {"reasons": reasons}
    for role, model in models.items():
        written = {key: value for key, value in recipe[role].items() if value is not None}
        if written.get("name") == AUTO:
            name, reasons[role] = _picked(dataset, str(model["family"]))
            written = {**_numbers(read(name)[role]), **written, "name": name}
        resolved[role] = {
            key: _for_model(value, model, f"recipe.{role}.{key}") for key, value in written.items()
        }
        for key in REQUIRED:
            if resolved[role].get(key) is None:
                raise KdrunError(
                    f"recipe.{role}.{key}", None, f"recipe {written.get('name')} does not say it"
                )
    return resolved


def _picked(dataset: Written, family: str) -> tuple[str, str]:
    own = dataset.get("recipe")
    if own is not None:
        return str(own), "by data set"
    found = [name for start, name in BY_FAMILY.items() if family.startswith(start)]
    return (found[0] if found else OTHERWISE), "by model family"


def _numbers(written: Written) -> dict[str, Any]:
    return {key: value for key, value in written.items() if value is not None}


def _for_model(value: Any, model: Written, key: str) -> Any:
    """A number, or of a mapping that of the model's name, else of its family, else `default`."""
    if not isinstance(value, Mapping):
        return value
    for choice in (model["name"], model["family"], "default"):
        if choice in value:
            return value[choice]
    problem = f"has no number for model {model['name']}, its family {model['family']}, nor a default"
    raise KdrunError(key, None, problem)
