"""Images of another size than a network takes: which size it takes, and resizing at its input."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn
from torch.nn import functional as F

from kdrun.models.dry import dry_forward

CANDIDATES = (32, 64, 75, 96, 128, 224, 299)
"""Sides that are tried, in this order, when a network does not take images as they are."""

Size = tuple[int, int]


class Resize:
    """A forward pre-hook that resizes images (N, C, H, W) to a square, bilinearly.

    A hook and not a wrapping module: the names in the state dict stay as they are, and the model its own class.
    """

    def __init__(self, side: int, reduces: bool) -> None:
        self.side, self.reduces = side, reduces

    def __call__(self, module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        size = (self.side, self.side)
        images = F.interpolate(
            args[0], size, mode="bilinear", align_corners=False, antialias=self.reduces
        )
        return (images, *args[1:])


def candidates(native: Size, own: int | None) -> Iterator[Size]:
    """The sizes to try: the native one, larger squares in order, then smaller ones from the largest.

    own: a size that the model names itself, as vision transformers do.
    """
    yield native
    sides = sorted({*CANDIDATES, *([own] if own else [])})
    yield from ((side, side) for side in sides if side >= max(native) and (side, side) != native)
    yield from ((side, side) for side in reversed(sides) if side < max(native))


def refusal(model: nn.Module, channels: int, size: Size) -> Exception | None:
    """Why the model does not take images of this size; None if it does."""
    try:
        dry_forward(model, (channels, *size))
    except (RuntimeError, ValueError, AssertionError, IndexError, ZeroDivisionError, TypeError) as error:
        return error
    return None


def resized(model: nn.Module, native: Size, size: Size) -> str:
    """Makes the model resize its input from `native` to the square `size`, in place; says so and what it costs."""
    side, cost = size[0], size[0] * size[1] / (native[0] * native[1])
    model.register_forward_pre_hook(Resize(side, side < max(native)))
    shown = str(native[0]) if native[0] == native[1] else f"{native[0]}x{native[1]}"
    verb = "reduced" if side < max(native) else "enlarged"
    return f"images {verb} {shown} -> {side}", cost
