"""What a model does to images before its network sees them: normalises them anew, resizes them. By forward
pre-hooks, not wrapping modules: a model stays its own class, and its weights keep their names.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdrun.eval_mode import device_of

SCALE, SHIFT = "input_scale", "input_shift"
"""The names of both factors in a state dict, so that weights are not used without them."""


class Normalisation(NamedTuple):
    """Of each channel, for pixels from 0 to 1."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def for_channels(self, channels: int) -> Normalisation:
        """The same for another number of channels, each with the average."""
        if len(self.mean) == channels:
            return self
        return Normalisation(*((sum(values) / len(values),) * channels for values in self))


def _renormalised(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """A forward pre-hook: images times `input_scale` plus `input_shift`, buffers of the model."""
    return (args[0] * getattr(module, SCALE) + getattr(module, SHIFT), *args[1:])


def renormalise(model: nn.Module, given: Normalisation | None, wanted: Normalisation) -> tuple[str, ...]:
    """Makes a model take images normalised as `given` (None: unknown) and see them as `wanted`; notes."""
    if given is None:
        return ()
    wanted = wanted.for_channels(len(given.mean))
    if given == wanted:
        return ()
    (mean, std), (own_mean, own_std) = ((torch.tensor(values) for values in each) for each in (given, wanted))
    attach(model, std / own_std, (mean - own_mean) / own_std)
    shown = (", ".join(f"{value:.4g}" for value in dict.fromkeys(values)) for values in wanted)
    return ("images normalised as its weights want it (mean {}; std {})".format(*shown),)


def attach(model: nn.Module, scale: Tensor, shift: Tensor) -> None:
    """Makes the model's forward scale and shift its images, channel by channel."""
    for name, value in ((SCALE, scale), (SHIFT, shift)):
        model.register_buffer(name, value.reshape(1, -1, 1, 1).clone())
    model.register_forward_pre_hook(_renormalised, prepend=True)


def attach_from(model: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Attaches the factors in weights of a renormalised model, unless the model has them already."""
    if SCALE in weights and SHIFT in weights and not hasattr(model, SCALE):
        device = device_of(model)
        attach(model, weights[SCALE].to(device), weights[SHIFT].to(device))


class Resize:
    """A forward pre-hook that resizes images (N, C, H, W) to a square, bilinearly."""

    def __init__(self, side: int, reduces: bool) -> None:
        self.side, self.reduces = side, reduces

    def __call__(self, module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        size = (self.side, self.side)
        images = F.interpolate(args[0], size, mode="bilinear", align_corners=False, antialias=self.reduces)
        return (images, *args[1:])
