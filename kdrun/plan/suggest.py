"""Where a method does not fit a pair of models: which shipped methods do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from kdrun.config.presets import presets
from kdrun.errors import KdrunError
from kdrun.losses.mix import Mix, make_mix
from kdrun.models.taps import probe
from kdrun.types import POOLED, Shapes

MOST = 6
"""Methods that are named at most."""


@contextmanager
def naming_alternatives(
    mix: Mix, student: nn.Module, teacher: nn.Module, image_shape: tuple[int, int, int]
) -> Iterator[None]:
    """Adds the names of methods that fit to a KdrunError that says why a mix does not fit the models.

    An error with choices is about a word that was typed, and stays as it is.
    """
    try:
        yield
    except KdrunError as error:
        key, value, problem, choices, more = error.args
        if choices:
            raise
        shapes = (probe(model, image_shape, [POOLED]) for model in (student, teacher))
        names = alternatives(mix, *shapes)
        problem = f"{problem}; methods that would do: {', '.join(names)}" if names else problem
        raise KdrunError(key, value, problem, (), more) from None


def alternatives(mix: Mix, student: Shapes, teacher: Shapes) -> list[str]:
    """The shipped methods that fit two models, those that read the same kinds of layers first.

    Of several methods with the same losses the first is named. Methods that change the student or the teacher
    are left out.
    """
    read = _kinds(mix)
    fitting: dict[frozenset[str], tuple[float, str]] = {}
    for preset in presets():
        if preset.changes_models:
            continue
        mixes = [make_mix(loss) for loss in preset.phases]
        losses = frozenset(term["name"] for loss in preset.phases for term in loss.values())
        asks = any(other.needs.teacher for other in mixes) and losses not in fitting
        if asks and all(_fits(other, student, teacher) for other in mixes):
            kinds = frozenset().union(*map(_kinds, mixes))
            fitting[losses] = (-len(read & kinds) / len(read | kinds), preset.name)
    return [name for _, name in sorted(fitting.values())[:MOST]]


def _fits(mix: Mix, student: Shapes, teacher: Shapes) -> bool:
    try:
        with torch.device("meta"):  # adapters without values
            mix.build(student, teacher, images=2)
    except KdrunError:
        return False
    return True


def _kinds(mix: Mix) -> frozenset[str]:
    """What a mix reads of the teacher: `logits`, `embedding`, `stage` for any map, and so on."""
    maps = {name for name in mix.needs.teacher if name.startswith("stage") or name == POOLED}
    return (mix.needs.teacher - maps) | ({"stage"} if maps else set())
