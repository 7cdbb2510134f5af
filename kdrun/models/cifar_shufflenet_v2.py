"""ShuffleNetV2 for 32x32 images: shufflenet_v2.

Ma et al. 2018, in the form of the zoo of Tian et al. 2020: a 1x1 stem without pooling. The head reads 1024
channels, the last stage has 464. Initial weights are torch's own.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdrun.errors import KdrunError
from kdrun.models.cifar_shufflenet_v1 import STEM_WIDTH, shuffle
from kdrun.models.staged import Staged
from kdrun.quantities import Count, Layers


class DownBlock(nn.Module):
    """(N, channels, H, W) to (N, out, H/2, W/2): two branches, joined and shuffled."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        half = out // 2
        self.conv1 = nn.Conv2d(channels, channels, 3, 2, 1, groups=channels, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, half, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(half)
        self.conv3 = nn.Conv2d(channels, half, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(half)
        self.conv4 = nn.Conv2d(half, half, 3, 2, 1, groups=half, bias=False)
        self.bn4 = nn.BatchNorm2d(half)
        self.conv5 = nn.Conv2d(half, half, 1, bias=False)
        self.bn5 = nn.BatchNorm2d(half)

    def forward(self, x: Tensor) -> Tensor:
        left = F.relu(self.bn2(self.conv2(self.bn1(self.conv1(x)))))
        right = F.relu(self.bn3(self.conv3(x)))
        right = F.relu(self.bn5(self.conv5(self.bn4(self.conv4(right)))))
        return shuffle(torch.cat([left, right], 1), 2)


class Join(nn.Module):
    """The end of a basic block. Its two inputs side by side are the block's values before the activation."""

    def forward(self, kept: Tensor, branch: Tensor) -> Tensor:
        return shuffle(torch.cat([kept, F.relu(branch)], 1), 2)


class ShuffleUnit(nn.Module):
    """Half of the channels passes, the other half is worked on; (N, C, H, W) stays (N, C, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.conv1 = nn.Conv2d(half, half, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(half)
        self.conv2 = nn.Conv2d(half, half, 3, 1, 1, groups=half, bias=False)
        self.bn2 = nn.BatchNorm2d(half)
        self.conv3 = nn.Conv2d(half, half, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(half)
        self.join = Join()

    def forward(self, x: Tensor) -> Tensor:
        kept, branch = x.chunk(2, 1)
        branch = F.relu(self.bn1(self.conv1(branch)))
        branch = self.bn3(self.conv3(self.bn2(self.conv2(branch))))
        out: Tensor = self.join(kept, branch)
        return out


class CifarShuffleNetV2(Staged):
    """Logits (N, classes) of images (N, channels, H, W); each stage halves the size.

    widths, blocks: of each stage, its down block counted. last: channels before the head. Raises
    KdrunError for odd widths, a stage of under two blocks, and lists of other lengths.
    """

    tail = ("conv2", "bn2", "relu2")

    def __init__(
        self, *, classes: int, channels: int, widths: list[Count], blocks: list[Layers], last: Count
    ) -> None:
        if len(widths) != len(blocks) or min(blocks) < 2:
            problem = f"one count of at least 2 for each of {len(widths)} widths is needed"
            raise KdrunError("blocks", blocks, problem)
        if any(width % 2 for width in widths):
            raise KdrunError("widths", widths, "even widths are needed")
        stages = (
            [DownBlock(before, width), *(ShuffleUnit(width) for _ in range(count - 1))]
            for (before, width), count in zip(pairwise([STEM_WIDTH, *widths]), blocks, strict=True)
        )
        super().__init__(nn.Conv2d(channels, STEM_WIDTH, 1, bias=False), stages, "join", "linear")
        self.conv2 = nn.Conv2d(widths[-1], last, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(last)
        self.relu2 = nn.ReLU()
        self.linear = nn.Linear(last, classes)


build = CifarShuffleNetV2
