"""First convolutions of torchvision's models: a stem for small images, other channel counts than three."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import nn

from kdrun.errors import KdrunError
from kdrun.models.family import Draft

SMALL = 64
"""The largest side of images that get the stem for small images, if a model has one."""

CIFAR_NOTE = "stem for small images (3x3, stride 1, no pooling)"


class Stem(NamedTuple):
    """Module paths. pool: the pooling right after the stem, if there is one."""

    conv: str
    pool: str | None = None


STEMS: Mapping[str, Stem] = {
    "ResNet": Stem("conv1", "maxpool"),
    "DenseNet": Stem("features.conv0", "features.pool0"),
    "MobileNetV2": Stem("features.0.0"),
    "MobileNetV3": Stem("features.0.0"),
    "EfficientNet": Stem("features.0.0"),
    "ShuffleNetV2": Stem("conv1.0", "maxpool"),
    "RegNet": Stem("stem.0"),
    "MNASNet": Stem("layers.0"),
}
"""Stems that can be replaced, by torchvision's class names."""


class StemChange(NamedTuple):
    """What was done to a layer. new: whether it has weights that nothing was trained on."""

    notes: tuple[str, ...] = ()
    new: bool = False


def is_small(size: tuple[int, int]) -> bool:
    """Whether images of this (H, W) are better off without an ImageNet stem."""
    return max(size) <= SMALL


def fit_stem(
    model: nn.Module,
    name: str,
    stem: str,
    native_size: tuple[int, int],
    pretrained: bool | str,
    stems: Mapping[str, Stem] = STEMS,
) -> StemChange:
    """Makes a stem for small images, 3x3 with stride 1 without pooling, if that is asked for, in place; 3x3
    weights are kept. auto: for small images, unless pretrained. Raises KdrunError if no stem is in `stems`.
    """
    own = stems.get(type(model).__name__)
    old = None if own is None else model.get_submodule(own.conv)
    if stem == "cifar" and not isinstance(old, nn.Conv2d):
        raise KdrunError("stem", stem, f"{name} has no stem for small images; take auto or imagenet")
    small = stem == "cifar" or (stem == "auto" and is_small(native_size) and not pretrained)
    if not small or own is None or not isinstance(old, nn.Conv2d):
        return StemChange()
    conv = _like(old, old.in_channels, kernel=3, stride=1)
    kept = conv.weight.shape == old.weight.shape
    if kept:
        conv.load_state_dict(old.state_dict())
    model.set_submodule(own.conv, conv)
    if own.pool is not None:
        model.set_submodule(own.pool, nn.Identity())
    return StemChange((CIFAR_NOTE,), new=not kept)


def new_head(before: int, classes: int) -> StemChange:
    """A head for other classes than the weights have."""
    return StemChange((f"new head: {before} -> {classes} classes, untrained",), new=True)


def drafted(model: nn.Module, changes: Sequence[StemChange], pretrained: bool | str) -> Draft:
    """The changed model, with notes."""
    notes = tuple(note for change in changes for note in change.notes)
    return Draft(model, notes, head_is_new=bool(pretrained) and any(change.new for change in changes))


def take_channels(model: nn.Module, channels: int) -> StemChange:
    """Makes the first convolution read `channels` channels, in place. For one, the weights are summed over
    the three: a grey image gives what its RGB copy gave.
    """
    path, old = next((p, m) for p, m in model.named_modules() if isinstance(m, nn.Conv2d))
    if old.in_channels == channels:
        return StemChange()
    conv = _like(old, channels, old.kernel_size[0], old.stride[0], old.padding)
    if channels == 1:
        with torch.no_grad():
            conv.weight.copy_(old.weight.sum(1, keepdim=True))
            if conv.bias is not None and old.bias is not None:
                conv.bias.copy_(old.bias)
    model.set_submodule(path, conv)
    return StemChange(
        (f"first convolution reads {channels} channel{'s' if channels > 1 else ''}",), channels != 1
    )


def _like(
    old: nn.Conv2d, channels: int, kernel: int, stride: int, padding: str | tuple[int, ...] | None = None
) -> nn.Conv2d:
    """A first convolution in place of another, newly drawn: He et al. 2015 by fan out, patches by fan in."""
    size = kernel // 2 if padding is None else padding
    bias = old.bias is not None
    conv = nn.Conv2d(channels, old.out_channels, kernel, stride, size, bias=bias)  # type: ignore[arg-type]
    if kernel == stride:
        nn.init.kaiming_normal_(conv.weight, mode="fan_in", nonlinearity="linear")
    else:
        nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return conv
