"""The key `control`: which other trainings of the student it is compared with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from kdrun.config.choices import CONTROLS, PLAIN
from kdrun.config.schema import Recipe
from kdrun.errors import KdrunError
from kdrun.figures import as_typed

WORDS = {
    "true": True,
    "yes": True,
    "on": True,
    "1": True,
    "false": False,
    "no": False,
    "off": False,
    "0": False,
}
"""How a switch is typed."""


def written(value: Any) -> bool | list[str]:
    """A value of `control` in one form: true is the plain one, false none, a list any others, in the order of
    CONTROLS.

    The plain control is the teacher of `self`, so that `self` brings it along. Raises KdrunError.
    """
    if isinstance(value, (bool, int, str)) and (switch := WORDS.get(str(value).lower())) is not None:
        return switch
    names = value if isinstance(value, list) else [value]
    for name in names:
        if name not in CONTROLS:
            problem = "no such control (true: plain, false: none)"
            raise KdrunError("control", as_typed(name), problem, CONTROLS)
    if len(set(names)) < len(names):
        raise KdrunError("control", as_typed(names), "must not name anything twice")
    asked = [name for name in CONTROLS if name in names or (name == "plain" and "self" in names)]
    return bool(asked) if asked in ([], ["plain"]) else asked


def names(value: bool | list[str]) -> tuple[str, ...]:
    """The controls of a value in that form."""
    return (("plain",) if value else ()) if isinstance(value, bool) else tuple(value)


def role(name: str) -> str:
    """The name of a control's training, and of its column in a report's file."""
    return PLAIN if name == "plain" else f"{PLAIN}_{name}"


def lengthened(recipe: Recipe, times: float) -> Recipe:
    """The recipe with so many times the epochs, at least as many; what it sets in epochs grows along."""
    epochs, stop = max(recipe.epochs, round(times * recipe.epochs)), recipe.stop_at

    def longer(epoch: int) -> int:
        return round(epoch * epochs / recipe.epochs)

    milestones = [longer(epoch) for epoch in recipe.milestones]
    stop = longer(stop) if isinstance(stop, int) else stop
    return replace(recipe, epochs=epochs, milestones=milestones, stop_at=stop)


def as_trained(name: str, recipe: Recipe, settings: Mapping[str, Any], times: float) -> Recipe:
    """The recipe of a control. recipe: the student's. settings: the keys of `controls`. times: of longer."""
    if name == "smoothed":
        return replace(recipe, label_smoothing=float(settings["smoothing"]))
    return lengthened(recipe, times) if name == "longer" else recipe
