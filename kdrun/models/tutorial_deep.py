"""The networks of PyTorch's tutorial on CIFAR-10: deepnn (1,186,986 parameters) and lightnn (267,738).

3x3 convolutions with ReLU, 2x2 max-pooling after some of them, a dense layer with dropout, a linear head.
"""

from __future__ import annotations

from itertools import pairwise

from torch import nn

from kdrun.errors import KdrunError
from kdrun.models.family import TooSmall
from kdrun.models.plain_cnn import PlainCnn
from kdrun.quantities import Count, Layers


def build(
    *,
    classes: int,
    channels: int,
    image_size: tuple[int, int],
    widths: list[Count],
    pool_every: Layers,
    dense: Count,
    dropout: float,
) -> nn.Module:
    """widths: of the convolutions. pool_every: how many of them lie before each pooling. dense: width of the
    dense layer, before dropout. Raises KdrunError for numbers out of range, TooSmall if no pixel is left.
    """
    if len(widths) % pool_every:
        raise KdrunError("pool_every", pool_every, f"must divide the number of convolutions ({len(widths)})")
    if not 0 <= dropout < 1:
        raise KdrunError("dropout", dropout, "must be from 0 to below 1")
    height, width = (side // 2 ** (len(widths) // pool_every) for side in image_size)
    if min(height, width) < 1:
        raise TooSmall(f"images of {image_size[0]}x{image_size[1]} are too small")
    features: list[nn.Module] = []
    for position, (before, out) in enumerate(pairwise([channels, *widths]), 1):
        features += [nn.Conv2d(before, out, 3, padding=1), nn.ReLU()]
        if position % pool_every == 0:
            features.append(nn.MaxPool2d(2))
    flat = widths[-1] * height * width
    return PlainCnn(features, [nn.Linear(flat, dense), nn.ReLU(), nn.Dropout(dropout)], dense, classes)
