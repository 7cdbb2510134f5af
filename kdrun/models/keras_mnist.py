"""The networks of Keras' distillation example on MNIST: keras_mnist_teacher (1,433,610 parameters) and
keras_mnist_student (20,490).

Two 3x3 convolutions with stride 2, a leaky ReLU and a 2x2 max-pooling with stride 1 between them, a linear
head; no activation before it. Padding and initial weights as Keras has them: an odd pixel of padding goes to
the right and to the bottom; Glorot & Bengio 2010, uniform, biases 0.
"""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.nn import functional

from kdrun.errors import KdrunError
from kdrun.quantities import Count


class KerasMnist(nn.Module):
    """Logits (N, classes) of images (N, channels, *image_size).

    widths: of both convolutions (KdrunError for others). slope: of the leaky ReLU below 0.
    """

    def __init__(
        self, *, classes: int, channels: int, image_size: tuple[int, int], widths: list[Count], slope: float
    ) -> None:
        super().__init__()
        if len(widths) != 2:
            raise KdrunError("widths", widths, "two are needed")
        self.conv1 = nn.Conv2d(channels, widths[0], 3, stride=2)
        self.activation = nn.LeakyReLU(slope)
        self.pool = nn.MaxPool2d(2, stride=1)
        self.conv2 = nn.Conv2d(widths[0], widths[1], 3, stride=2)
        self.flatten = nn.Flatten()
        height, width = (math.ceil(side / 4) for side in image_size)
        self.classifier = nn.Linear(widths[1] * height * width, classes)
        self.stages, self.pre = ("activation", "conv2"), ("activation:in", "conv2")
        self.head = "classifier"
        for layer in (self.conv1, self.conv2, self.classifier):
            nn.init.xavier_uniform_(layer.weight)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        out = self.activation(self.conv1(same(x, kernel=3, stride=2)))
        out = self.pool(same(out, kernel=2, stride=1, value=-math.inf))
        out = self.conv2(same(out, kernel=3, stride=2))
        logits: Tensor = self.classifier(self.flatten(out))
        return logits


build = KerasMnist


def same(x: Tensor, kernel: int, stride: int, value: float = 0.0) -> Tensor:
    """Maps (N, C, H, W) padded so that a window gives ceil(H / stride) rows; the odd one after the last."""
    total = [max(0, (math.ceil(side / stride) - 1) * stride + kernel - side) for side in x.shape[2:]]
    (top, bottom), (left, right) = ((each // 2, each - each // 2) for each in total)
    return functional.pad(x, (left, right, top, bottom), value=value)
