"""ShuffleNet for 32x32 images: shufflenet_v1.

Zhang et al. 2018, in the form of the zoo of Tian et al. 2020: a 1x1 stem, and a ReLU after the depthwise
convolution, which the paper does not have. Initial weights are torch's own.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdrun.errors import KdrunError
from kdrun.models.staged import Staged
from kdrun.quantities import Count, Layers

STEM_WIDTH = 24


def _check_widths(groups: int, widths: list[int], blocks: list[int]) -> None:
    """Raises KdrunError if a unit would lack channels, or if its convolutions cannot be grouped."""
    before = STEM_WIDTH
    for width, count in zip(widths, blocks, strict=True):
        if width - before < 4:
            problem = f"each must be 4 or more above the one before, and the first above {STEM_WIDTH}"
            raise KdrunError("widths", widths, problem)
        branches = [width - before, *([width] if count > 1 else [])]
        layers = [width, *branches, *(branch // 4 for branch in branches)]
        if any(layer % groups for layer in layers):
            problem = f"must divide the channels of each layer: {sorted(set(layers))}"
            raise KdrunError("groups", groups, problem)
        before = width


def shuffle(x: Tensor, groups: int) -> Tensor:
    """Channels (N, C, H, W) seen as (groups, C / groups) and transposed (Zhang et al. 2018, figure 1)."""
    n, c, h, w = x.shape
    return x.view(n, groups, c // groups, h, w).transpose(1, 2).reshape(n, c, h, w)


class Unit(nn.Module):
    """(N, channels, H, W) to (N, out, H/stride, W/stride); with stride 2 the pooled input is appended."""

    def __init__(self, channels: int, out: int, stride: int, groups: int) -> None:
        super().__init__()
        branch = out - channels if stride == 2 else out
        inner = branch // 4
        self.stride = stride
        # The stem's few channels are not grouped.
        self.first_groups = 1 if channels == STEM_WIDTH else groups
        self.conv1 = nn.Conv2d(channels, inner, 1, groups=self.first_groups, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, 1, groups=inner, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, branch, 1, groups=groups, bias=False)
        self.bn3 = nn.BatchNorm2d(branch)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        h = shuffle(F.relu(self.bn1(self.conv1(x))), self.first_groups)
        h = F.relu(self.bn2(self.conv2(h)))
        h = self.bn3(self.conv3(h))
        joined = torch.cat([h, F.avg_pool2d(x, 3, 2, 1)], 1) if self.stride == 2 else h + x
        out: Tensor = self.relu(joined)
        return out


class CifarShuffleNetV1(Staged):
    """Logits (N, classes) of images (N, channels, H, W); each stage halves the size.

    groups: of the 1x1 convolutions. widths, blocks: of each stage. Raises KdrunError.
    """

    def __init__(
        self, *, classes: int, channels: int, groups: Count, widths: list[Count], blocks: list[Layers]
    ) -> None:
        if len(widths) != len(blocks):
            raise KdrunError("blocks", blocks, f"one count for each of the {len(widths)} widths is needed")
        _check_widths(groups, widths, blocks)
        stages = (
            [Unit(before, width, 2, groups), *(Unit(width, width, 1, groups) for _ in range(count - 1))]
            for (before, width), count in zip(pairwise([STEM_WIDTH, *widths]), blocks, strict=True)
        )
        super().__init__(nn.Conv2d(channels, STEM_WIDTH, 1, bias=False), stages, "relu", "linear")
        self.linear = nn.Linear(widths[-1], classes)


build = CifarShuffleNetV1
