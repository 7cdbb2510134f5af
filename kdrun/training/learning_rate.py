"""The learning rate as a pure function of the step number."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol


class Rates(Protocol):
    """The part of a recipe that sets the learning rate."""

    lr: float
    schedule: str
    gamma: float
    warmup: float
    div: float
    final_div: float

    @property
    def milestones(self) -> Sequence[int]: ...


def learning_rate(recipe: Rates, step: int, steps: int, steps_per_epoch: int) -> float:
    """The learning rate of step 0 ... steps - 1. step: lr times gamma for each milestone (in epochs) that is
    reached. cosine: linear warm-up over the first `warmup` (fraction of all steps), then half a cosine to 0.
    onecycle (Smith & Topin 2018): half a cosine from lr / div up to lr, then one down to lr / (div *
    final_div).
    """
    if recipe.schedule == "constant":
        return recipe.lr
    if recipe.schedule == "step":
        return recipe.lr * recipe.gamma ** sum(step >= m * steps_per_epoch for m in recipe.milestones)
    if recipe.schedule == "cosine":
        rising = recipe.warmup * steps
        if step < rising:
            return recipe.lr * min(1.0, (step + 1) / rising)
        return _half_cosine(recipe.lr, 0.0, (step - rising) / max(1.0, steps - rising))
    return _one_cycle(recipe, step, steps)


def _one_cycle(recipe: Rates, step: int, steps: int) -> float:
    start = recipe.lr / recipe.div
    top = recipe.warmup * steps - 1
    if step <= top:
        return _half_cosine(start, recipe.lr, step / top if top > 0 else 1.0)
    return _half_cosine(recipe.lr, start / recipe.final_div, (step - top) / max(1.0, steps - 1 - top))


def _half_cosine(start: float, end: float, part: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * min(1.0, part))) / 2
