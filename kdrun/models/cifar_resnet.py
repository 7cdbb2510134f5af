"""Post-activation ResNets for 32x32 images: resnet8 ... resnet110, resnet8x4, resnet32x4.

He et al. 2016, section 4.2, with projection shortcuts (option B) if the size changes, as in the zoo of
Tian et al. 2020; the paper pads with zeros there (option A) and so has fewer parameters.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from torch import Tensor, nn
from torch.nn import functional as F

from kdrun.errors import KdrunError
from kdrun.models.initial import he_fan_out
from kdrun.models.staged import Staged
from kdrun.quantities import Count, Layers


def build(*, classes: int, channels: int, depth: Layers, stem_width: Count, widths: list[Count]) -> nn.Module:
    """A ResNet of `depth` = 6n + 2 weight layers, n blocks in each stage. Raises KdrunError for other depths.
    widths: channels of the stages.
    """
    if depth < 8 or (depth - 2) % 6:
        raise KdrunError("depth", depth, "6n + 2 is needed", [str(6 * n + 2) for n in range(1, 19)])
    blocks = [(depth - 2) // 6] * len(widths)
    return CifarResNet(classes, channels, BasicBlock, stem_width, widths, blocks, "fc")


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut: (N, C, H, W) to (N, width, H/stride, W/stride).

    projection: the shortcut's name in published weights.
    """

    expansion, projection = 1, "downsample"

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.add_module(self.projection, shortcut(channels, width, stride))
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        h = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        out: Tensor = self.relu(h + getattr(self, self.projection)(x))
        return out


def shortcut(channels: int, out: int, stride: int) -> nn.Module:
    """From a block's input to its output: a projection if the shape changes."""
    if stride == 1 and channels == out:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out))


class ResidualBlock(Protocol):
    """A class of blocks that give `expansion * width` channels and end with a module `relu`."""

    expansion: int

    def __call__(self, channels: int, width: int, stride: int) -> nn.Module: ...


class CifarResNet(Staged):
    """Stages with first strides 1, 2, 2, ...; logits (N, classes) of images (N, channels, H, W).

    widths, blocks: of each stage. head: the name of the last layer in published weights.
    """

    def __init__(
        self,
        classes: int,
        channels: int,
        block: ResidualBlock,
        stem_width: int,
        widths: Sequence[int],
        blocks: Sequence[int],
        head: str,
    ) -> None:
        stem = nn.Conv2d(channels, stem_width, 3, 1, 1, bias=False)
        super().__init__(stem, _stages(block, stem_width, widths, blocks), "relu", head)
        self.add_module(head, nn.Linear(block.expansion * widths[-1], classes))
        he_fan_out(self)


def _stages(
    block: ResidualBlock, before: int, widths: Sequence[int], blocks: Sequence[int]
) -> Iterator[list[nn.Module]]:
    for position, (width, count) in enumerate(zip(widths, blocks, strict=True)):
        first = block(before, width, 1 if position == 0 else 2)
        before = block.expansion * width
        yield [first, *(block(before, width, 1) for _ in range(count - 1))]
