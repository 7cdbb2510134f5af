"""The CNN of beginners' tutorials on CIFAR-10: cnn_tutorial (122,570 parameters), cnn_tutorial_small.

Three 3x3 convolutions without padding, 2x2 max-pooling after the first two, a dense layer, a linear head.
"""

from __future__ import annotations

from itertools import pairwise

from torch import nn

from kdrun.models.family import TooSmall
from kdrun.models.plain_cnn import PlainCnn
from kdrun.quantities import Count


def build(
    *, classes: int, channels: int, image_size: tuple[int, int], widths: list[Count], dense: Count
) -> nn.Module:
    """widths: of the convolutions. dense: of the dense layer. Raises TooSmall if no pixel is left."""
    left = [_side(side, len(widths)) for side in image_size]
    if min(left) < 1:
        raise TooSmall(f"images of {image_size[0]}x{image_size[1]} are too small")
    features: list[nn.Module] = []
    for position, (before, out) in enumerate(pairwise([channels, *widths]), 1):
        features += [nn.Conv2d(before, out, 3), nn.ReLU()]
        if position < len(widths):
            features.append(nn.MaxPool2d(2))
    flat = widths[-1] * left[0] * left[1]
    return PlainCnn(features, [nn.Linear(flat, dense), nn.ReLU()], dense, classes)


def _side(side: int, convs: int) -> int:
    """What is left of a side after each convolution takes 2 and each pooling, between them, halves it."""
    for position in range(convs):
        side = side - 2 if position == 0 else side // 2 - 2
    return side
