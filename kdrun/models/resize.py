"""Resizing images at a network's input."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.nn import functional as F


class Resize:
    """A forward pre-hook that resizes images (N, C, H, W) to a square, bilinearly.

    A hook and not a wrapping module: the names in the state dict stay as they are, and the model its own
    class.
    """

    def __init__(self, side: int, reduces: bool) -> None:
        self.side, self.reduces = side, reduces

    def __call__(self, module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        size = (self.side, self.side)
        images = F.interpolate(args[0], size, mode="bilinear", align_corners=False, antialias=self.reduces)
        return (images, *args[1:])
