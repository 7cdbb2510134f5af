"""The CNN of beginners' tutorials on CIFAR-10: cnn_tutorial (122,570 parameters), cnn_tutorial_small.

Three 3x3 convolutions without padding, 2x2 max-pooling after the first two, a dense layer, a linear head.
"""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from kdrun.models.family import TooSmall
from kdrun.quantities import Count


def build(
    *, classes: int, channels: int, image_size: tuple[int, int], widths: list[Count], dense: Count
) -> nn.Module:
    """widths: channels of the convolutions. dense: width of the dense layer.

    Raises TooSmall for images of which nothing is left to flatten.
    """
    return TutorialCnn(classes, channels, image_size, widths, dense)


class TutorialCnn(nn.Module):
    """Logits (N, classes) of images (N, channels, *image_size)."""

    def __init__(
        self, classes: int, channels: int, image_size: tuple[int, int], widths: list[int], dense: int
    ) -> None:
        super().__init__()
        left = [_side(side, len(widths)) for side in image_size]
        if min(left) < 1:
            raise TooSmall(f"images of {image_size[0]}x{image_size[1]} are too small")
        self.features = nn.Sequential()
        stages: list[str] = []
        for position, (before, out) in enumerate(pairwise([channels, *widths])):
            stages.append(f"features.{len(self.features) + 1}")
            self.features.extend([nn.Conv2d(before, out, 3), nn.ReLU()])
            if position < len(widths) - 1:
                self.features.append(nn.MaxPool2d(2))
        self.flatten = nn.Flatten()
        self.dense = nn.Sequential(nn.Linear(widths[-1] * left[0] * left[1], dense), nn.ReLU())
        self.classifier = nn.Linear(dense, classes)
        self.stages = tuple(stages)
        self.pre = tuple(f"{stage}:in" for stage in stages)
        self.head = "classifier"

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.classifier(self.dense(self.flatten(self.features(x))))
        return out


def _side(side: int, convs: int) -> int:
    """What is left of a side after each convolution takes 2 and each pooling, between them, halves it."""
    for position in range(convs):
        side = side - 2 if position == 0 else side // 2 - 2
    return side
