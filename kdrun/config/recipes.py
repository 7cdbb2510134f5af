"""Recipes: short keys for both, which one `auto` takes, and which of its numbers a model gets."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from kdrun.config.choices import ROLES
from kdrun.config.files import Read
from kdrun.errors import KdrunError

AUTO = "auto"
BY_FAMILY = {"wrn": "crd", "cifar_": "crd"}
"""The recipe of the families whose name begins so; all others take `quick`."""
OTHERWISE = "quick"
REQUIRED = ("epochs", "batch", "optimiser", "lr")

SHORTS = ("epochs", "batch", "lr")
"""Keys that stand for `recipe.teacher.KEY` and `recipe.student.KEY`."""

Written = Mapping[str, Any]
KEY = "dataset.recipe"
"""The key of the name that `auto` takes."""


def resolve(
    recipe: Mapping[str, Written],
    dataset: Written,
    models: Mapping[str, Written],
    read: Read,
    assistants: Sequence[Written] = (),
    teachers: Mapping[str, Written] | None = None,
) -> dict[str, Any]:
    """All recipes as plain numbers, and `reasons`, why `auto` took what it took.

    recipe, models: by role (`teacher`, `student`); beside these, the recipe may have a `labelled_share`. What
    is written there beats what `auto` took. assistants: models that are trained by the student's recipe.
    teachers: several teachers by name, each trained by the teacher's recipe. `auto` takes that of a teacher's
    own data set if it has one.
    """
    resolved = {role: _resolved(role, recipe[role], dataset, model, read) for role, model in models.items()}
    others = [_resolved("student", recipe["student"], dataset, model, read)[0] for model in assistants]
    reasons = {role: reason for role, (_, reason) in resolved.items() if reason}
    return {role: numbers for role, (numbers, _) in resolved.items()} | {
        "labelled_share": _share(recipe, dataset, models["student"], read),
        "assistant": others,
        "teachers": {
            name: _resolved("teacher", recipe["teacher"], dataset, model, read)[0]
            for name, model in (teachers or {}).items()
        },
        "reasons": reasons,
    }


def _share(recipe: Mapping[str, Any], dataset: Written, student: Written, read: Read) -> float | None:
    """The labelled share that is written, else that of the recipe that `auto` takes for the student."""
    share: float | None = recipe.get("labelled_share")
    if share is not None or recipe["student"].get("name") != AUTO:
        return share
    name, _ = _picked(dataset, str(student["family"]))
    picked: Mapping[str, Any] = read(name, KEY)
    return picked.get("labelled_share")


def _resolved(
    role: str, recipe: Written, dataset: Written, model: Written, read: Read
) -> tuple[dict[str, Any], str]:
    written, reason = _numbers(recipe), ""
    if written.get("name") == AUTO:
        name, reason = _picked(model.get("dataset") or dataset, str(model["family"]))
        written = {**_numbers(read(name, KEY)[role]), **written, "name": name}
    numbers = {key: _for_model(value, model, f"recipe.{role}.{key}") for key, value in written.items()}
    for key in REQUIRED:
        if numbers.get(key) is None:
            raise KdrunError(f"recipe.{role}.{key}", None, f"recipe {written.get('name')} does not say it")
    return numbers, reason


def _picked(dataset: Written, family: str) -> tuple[str, str]:
    own = dataset.get("recipe")
    if own is not None:
        return str(own), "by data set"
    named = (name for start, name in BY_FAMILY.items() if family.startswith(start))
    return next(named, OTHERWISE), "by model family"


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


def from_short_keys(plain: dict[str, Any], typed: Collection[str]) -> list[str]:
    """Moves the short keys of a plain configuration into its recipes; a long key that was typed wins.

    typed: the keys of the overrides. Returns the long keys with their values: `recipe.student.epochs=3`.
    """
    spelled = []
    for short in SHORTS:
        value = plain.pop(short)
        for role in ROLES if value is not None else ():
            if (key := f"recipe.{role}.{short}") not in typed:
                plain["recipe"][role][short] = value
                spelled.append(f"{key}={value}")
    return spelled


def spelled_out(overrides: Iterable[str]) -> Iterator[str]:
    """The overrides with each short key as the long ones that it stands for, before the others."""
    words = list(overrides)
    long = {word.partition("=")[0] for word in words}
    for word in words:
        key, equals, value = word.partition("=")
        if key in SHORTS and equals:
            own = (f"recipe.{role}.{key}" for role in ROLES)
            yield from (f"{name}={value}" for name in own if name not in long)
        else:
            yield word
