"""Images small and in 8 bits, to be shown to people."""

from __future__ import annotations

import torch
from torch import Tensor


def small(pixels: Tensor, white: float, side: int) -> Tensor:
    """(N, C, H, W) uint8 from black to 255, no side above `side`; of unusual channels the first."""
    values = pixels.float().mul(255 / white).clamp(0, 255)
    values = values if values.shape[1] in (1, 3) else values[:, :1]
    longest = max(values.shape[2:])
    if longest > side and len(values):
        size = [max(1, round(length * side / longest)) for length in values.shape[2:]]
        values = torch.nn.functional.interpolate(values, size, mode="area")
    return values.round().byte()
