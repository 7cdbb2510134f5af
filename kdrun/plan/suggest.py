"""The shipped methods that fit a pair of models, for the error about a method that does not."""

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
"""The most methods that an error names."""


@contextmanager
def naming_alternatives(
    mix: Mix,
    student: nn.Module,
    teacher: nn.Module,
    image_shape: tuple[int, int, int],
    named: bool = True,
) -> Iterator[None]:
    """Adds the methods that fit to a KdrunError about a mix that does not fit two models.

    An error with choices is about a typed word and does not change. named: if False, no error changes.
    """
    try:
        yield
    except KdrunError as error:
        key, value, problem, choices, more = error.args
        if choices or not named:
            raise
        shapes = (probe(model, image_shape, [POOLED]) for model in (student, teacher))
        names = alternatives(mix, *shapes)
        problem = f"{problem}; methods that would do: {', '.join(names)}" if names else problem
        raise KdrunError(key, value, problem, (), more) from None


def alternatives(mix: Mix, student: Shapes, teacher: Shapes) -> list[str]:
    """The shipped methods that fit two models. Those that read the same kinds of layers come first.

    Only the first of several methods with the same losses is named. Methods that change the student or the
    teacher are left out.
    """
    kinds_read = _kinds(mix)
    fitting: dict[frozenset[str], tuple[float, str]] = {}
    for preset in presets():
        if preset.changes_models:
            continue
        mixes = [make_mix(loss) for loss in preset.phases]
        losses = frozenset(term["name"] for loss in preset.phases for term in loss.values())
        reads_teacher = any(other.needs.teacher for other in mixes)
        if reads_teacher and losses not in fitting and all(_fits(other, student, teacher) for other in mixes):
            kinds = frozenset().union(*map(_kinds, mixes))
            fitting[losses] = (-len(kinds_read & kinds) / len(kinds_read | kinds), preset.name)
    return [name for _, name in sorted(fitting.values())[:MOST]]


def _fits(mix: Mix, student: Shapes, teacher: Shapes) -> bool:
    try:
        with torch.device("meta"):  # adapters without values
            mix.build(student, teacher, images=2)
    except KdrunError:
        return False
    return True


def _kinds(mix: Mix) -> frozenset[str]:
    """The kinds of layers that a mix reads of the teacher: `logits`, `embedding`, `stage` for any map."""
    maps = {name for name in mix.needs.teacher if name.startswith("stage") or name == POOLED}
    return (mix.needs.teacher - maps) | ({"stage"} if maps else set())
