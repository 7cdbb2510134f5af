"""A teacher that sees the student's view of an image as in its own training: scale, size, channels."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdrun.eval_mode import device_of
from kdrun.types import LUMA


class Sight(NamedTuple):
    """How a data set's pixels become what a model sees: `(pixel / white - mean) / std`, of (C, H, W)."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    white: float
    shape: tuple[int, int, int]


class Seen(nn.Module):
    """`model`, called with images (N, C, H, W) as one data set makes them, sees them as another does. Black
    and white stay. Grey becomes colour of equal channels, and colour becomes grey by its luma (ITU-R 601).
    """

    scale: Tensor
    shift: Tensor
    channels: Tensor | None

    def __init__(self, model: nn.Module, given: Sight, wanted: Sight) -> None:
        super().__init__()
        self.model, self.size = model, wanted.shape[1:]
        mean, std, own_mean, own_std = (
            torch.tensor(values, dtype=torch.float64)
            for values in (given.mean, given.std, wanted.mean, wanted.std)
        )
        mixed = mixing(given.shape[0], wanted.shape[0])
        if mixed is None:
            scale, shift = std / own_std, (mean - own_mean) / own_std
        else:
            scale, shift = 1 / own_std, (mixed @ mean - own_mean) / own_std
            mixed = (mixed * std).float()[None, :, :, None, None]
        self.register_buffer("channels", mixed, persistent=False)
        self.register_buffer("scale", scale.float().view(1, -1, 1, 1), persistent=False)
        self.register_buffer("shift", shift.float().view(1, -1, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Any:
        if self.channels is not None:
            images = (images[:, None] * self.channels).sum(2)
        images = images * self.scale + self.shift
        if images.shape[2:] != self.size:
            reduces = images.shape[2] > self.size[0]
            images = F.interpolate(images, self.size, mode="bilinear", align_corners=False, antialias=reduces)
        return self.model(images)


def mixing(given: int, wanted: int) -> Tensor | None:
    """(wanted, given) float64: what each channel of one kind of images is of those of another; None if both
    have as many. Raises ValueError if neither is grey, or if colour has not three channels.
    """
    if given == wanted:
        return None
    if given == 1:
        return torch.ones(wanted, 1, dtype=torch.float64)
    if (given, wanted) != (3, 1):
        raise ValueError(f"{given} channels cannot become {wanted}")
    return torch.tensor([LUMA], dtype=torch.float64)


def seen(model: nn.Module, given: Sight, wanted: Sight) -> nn.Module:
    """The model itself if both are the same."""
    if given == wanted:
        return model
    return Seen(model, given, wanted).to(device_of(model))
