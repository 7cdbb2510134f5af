"""Small convolutional networks for the 8x8 digits: cnn_digits (121,994 parameters), cnn_digits_small (994).

No normalisation layers. Without a dense layer the head reads the flattened last map.
"""

from __future__ import annotations

from itertools import pairwise

from torch import nn

from kdrun.errors import KdrunError
from kdrun.models.plain_cnn import PlainCnn
from kdrun.quantities import Count, Count0


def build(
    *,
    classes: int,
    channels: int,
    image_size: tuple[int, int],
    widths: list[Count],
    strides: list[Count],
    dense: Count0,
) -> nn.Module:
    """3x3 convolutions (padding 1, ReLU) of these widths and strides, flattened, a dense layer (0: none), the
    head. Raises KdrunError if the lists differ in length.
    """
    if len(widths) != len(strides):
        raise KdrunError("strides", strides, f"one for each of the {len(widths)} widths is needed")
    height, width = image_size
    features: list[nn.Module] = []
    for (before, out), stride in zip(pairwise([channels, *widths]), strides, strict=True):
        features += [nn.Conv2d(before, out, 3, stride, 1), nn.ReLU()]
        height, width = -(-height // stride), -(-width // stride)
    flat = widths[-1] * height * width
    return PlainCnn(features, [nn.Linear(flat, dense), nn.ReLU()] if dense else [], dense or flat, classes)
