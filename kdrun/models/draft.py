"""What a family returns if there is more to say than the model itself."""

from __future__ import annotations

from typing import NamedTuple

from torch import nn


class Draft(NamedTuple):
    """A model as its family made it.

    notes: what the screen must say of it. head_is_new: whether a part that pretrained weights should fill has
    none.
    """

    model: nn.Module
    notes: tuple[str, ...] = ()
    head_is_new: bool = False


class TooSmall(ValueError):
    """Images are too small for a network whose layers depend on their size."""
