"""Images of another size than a network takes: which size it takes, and resizing at its input."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from torch import nn

from kdrun.models.dry import dry_forward
from kdrun.models.resize import Resize

CANDIDATES = (32, 64, 75, 96, 128, 224, 299)
"""Sides that are tried, in this order, when a network does not take images as they are."""

Size = tuple[int, int]


def candidates(native: Size, own: Callable[[], Any]) -> Iterator[Size]:
    """The sizes to try: the native one, larger squares in order, then smaller ones from the largest.

    own: gives the size that the model itself names, as vision transformers do, or None; called after the
    first size.
    """
    yield native
    named = own()
    sides = sorted({*CANDIDATES, named} if isinstance(named, int) else CANDIDATES)
    yield from ((side, side) for side in sides if side >= max(native) and (side, side) != native)
    yield from ((side, side) for side in reversed(sides) if side < max(native))


def refusal(model: nn.Module, channels: int, size: Size) -> Exception | None:
    """Why the model does not take images of this size; None if it does."""
    try:
        dry_forward(model, (channels, *size))
    except (RuntimeError, ValueError, AssertionError, IndexError, ZeroDivisionError, TypeError) as error:
        return error
    return None


def resized(model: nn.Module, name: str, native: Size, side: int) -> str:
    """Makes the model resize its input from `native` to a square, in place; says so and what it costs."""
    cost = side * side / (native[0] * native[1])
    model.register_forward_pre_hook(Resize(side, side < max(native)))
    shown = str(native[0]) if native[0] == native[1] else f"{native[0]}x{native[1]}"
    verb = "reduced" if side < max(native) else "enlarged"
    return f"images {verb} {shown} -> {side} for {name} ({cost:.3g} times the pixels)"
