"""A teacher that sees the student's view of an image normalised and sized as in its own training."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Sight(NamedTuple):
    """How a data set's pixels become what a model sees: `(pixel / white - mean) / std`, of (C, H, W)."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    white: float
    shape: tuple[int, int, int]


class Seen(nn.Module):
    """`model`, called with images (N, C, H, W) as one data set makes them, sees them as another does."""

    scale: Tensor
    shift: Tensor

    def __init__(self, model: nn.Module, given: Sight, wanted: Sight) -> None:
        super().__init__()
        self.model, self.size = model, wanted.shape[1:]
        mean, std, own_mean, own_std = (
            torch.tensor(values, dtype=torch.float64)
            for values in (given.mean, given.std, wanted.mean, wanted.std)
        )
        ratio = given.white / wanted.white
        scale, shift = std * ratio / own_std, (mean * ratio - own_mean) / own_std
        self.register_buffer("scale", scale.float().view(1, -1, 1, 1), persistent=False)
        self.register_buffer("shift", shift.float().view(1, -1, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Any:
        images = images * self.scale + self.shift
        if images.shape[2:] != self.size:
            reduces = images.shape[2] > self.size[0]
            images = F.interpolate(images, self.size, mode="bilinear", align_corners=False, antialias=reduces)
        return self.model(images)


def seen(model: nn.Module, given: Sight, wanted: Sight) -> nn.Module:
    """The model itself if both are the same."""
    if given == wanted:
        return model
    device = next((tensor.device for tensor in model.parameters()), torch.device("cpu"))
    return Seen(model, given, wanted).to(device)
