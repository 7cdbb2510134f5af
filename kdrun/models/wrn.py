"""Wide ResNets with pre-activation blocks for 32x32 images: wrn_16_1 ... wrn_40_2.

Zagoruyko and Komodakis 2016. Stage features are raw block outputs (no batch norm, no ReLU). Before the
activation means, as in the zoo of Tian et al. 2020, after the batch norm that reads the stage: the next
stage's first, or the head's.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from kdrun.errors import KdrunError
from kdrun.models.initial import he_fan_out
from kdrun.quantities import Count, Layers


class PreActivationBlock(nn.Module):
    """(N, C, H, W) to (N, width, H/stride, W/stride); the shortcut convolution reads the activated input."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        # By width alone: a stage of equal width that strides would need one too, but no stage here does.
        self.convShortcut = None if channels == width else nn.Conv2d(channels, width, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        active = F.relu(self.bn1(x))
        h: Tensor = self.conv2(F.relu(self.bn2(self.conv1(active))))
        return h + (x if self.convShortcut is None else self.convShortcut(active))


class Stage(nn.Module):
    """Blocks in a row; the attribute `layer` gives published weights their names."""

    def __init__(self, blocks: int, channels: int, width: int, stride: int) -> None:
        super().__init__()
        first = PreActivationBlock(channels, width, stride)
        self.layer = nn.Sequential(first, *(PreActivationBlock(width, width, 1) for _ in range(blocks - 1)))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(x)
        return out


class WideResNet(nn.Module):
    """Widths 16k, 32k, 64k with first strides 1, 2, 2; logits (N, classes) of images (N, channels, H, W).

    depth: 6n + 4; KdrunError for others. width: the factor k.
    """

    def __init__(self, *, classes: int, channels: int, depth: Layers, width: Count) -> None:
        super().__init__()
        if depth < 10 or (depth - 4) % 6:
            raise KdrunError("depth", depth, "6n + 4 is needed", [str(6 * n + 4) for n in range(1, 9)])
        blocks = (depth - 4) // 6
        self.conv1 = nn.Conv2d(channels, 16, 3, 1, 1, bias=False)
        self.block1 = Stage(blocks, 16, 16 * width, 1)
        self.block2 = Stage(blocks, 16 * width, 32 * width, 2)
        self.block3 = Stage(blocks, 32 * width, 64 * width, 2)
        self.bn1 = nn.BatchNorm2d(64 * width)
        self.relu = nn.ReLU()
        self.fc = nn.Linear(64 * width, classes)
        self.stages = ("conv1", "block1", "block2", "block3")
        self.pre = ("conv1", "block2.layer.0.bn1", "block3.layer.0.bn1", "bn1")
        self.head = "fc"
        he_fan_out(self)
        nn.init.zeros_(self.fc.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.block3(self.block2(self.block1(self.conv1(x))))
        x = self.relu(self.bn1(x))
        out: Tensor = self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))
        return out


build = WideResNet
