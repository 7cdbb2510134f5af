"""Small convolutional networks for the 8x8 digits: cnn_digits (121,994 parameters), cnn_digits_small (994).

No normalisation layers. Without a dense layer the head reads the flattened last map.
"""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from kdrun.errors import KdrunError
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
    """3x3 convolutions (padding 1, ReLU) of these widths and strides, flattened, a dense layer, the head.

    dense: width of the dense layer, 0 for none. Raises KdrunError if the lists differ in length.
    """
    if len(widths) != len(strides):
        raise KdrunError("strides", strides, f"one for each of the {len(widths)} widths is needed")
    return DigitsCnn(classes, channels, image_size, widths, strides, dense)


class DigitsCnn(nn.Module):
    """Logits (N, classes) of images (N, channels, *image_size)."""

    def __init__(
        self,
        classes: int,
        channels: int,
        image_size: tuple[int, int],
        widths: list[int],
        strides: list[int],
        dense: int,
    ) -> None:
        super().__init__()
        height, width = image_size
        self.features = nn.Sequential()
        for (before, out), stride in zip(pairwise([channels, *widths]), strides, strict=True):
            self.features.extend([nn.Conv2d(before, out, 3, stride, 1), nn.ReLU()])
            height, width = -(-height // stride), -(-width // stride)
        flat = widths[-1] * height * width
        self.flatten = nn.Flatten()
        self.dense = nn.Sequential(nn.Linear(flat, dense), nn.ReLU()) if dense else nn.Sequential()
        self.classifier = nn.Linear(dense or flat, classes)
        self.stages = tuple(f"features.{2 * position + 1}" for position in range(len(widths)))
        self.pre = tuple(f"features.{2 * position}" for position in range(len(widths)))
        self.head = "classifier"

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.classifier(self.dense(self.flatten(self.features(x))))
        return out
