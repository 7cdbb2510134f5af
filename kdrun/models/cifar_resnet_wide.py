"""ImageNet's ResNet layout with a stem for small images: resnet18_cifar and resnet50_cifar.

He et al. 2016, table 1, without the first pooling and with a 3x3 stem, as in the zoo of Tian et al. 2020.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from kdrun.errors import KdrunError
from kdrun.models.initial import he_fan_out
from kdrun.quantities import Layers

WIDTHS = (64, 128, 256, 512)


def build(*, classes: int, channels: int, block: str, blocks: list[Layers], zero_init: bool) -> nn.Module:
    """A ResNet with `blocks` blocks in its four stages.

    block: basic or bottleneck. zero_init: start each residual branch at zero (its last batch norm's scale).
    Raises KdrunError.
    """
    if block not in BLOCKS:
        raise KdrunError("block", block, "no such block", BLOCKS)
    if len(blocks) != len(WIDTHS):
        raise KdrunError("blocks", blocks, "four counts are needed")
    return WideStemResNet(classes, channels, BLOCKS[block], blocks, zero_init)


class Basic(nn.Module):
    """Two 3x3 convolutions; (N, C, H, W) to (N, width, H/stride, W/stride)."""

    expansion = 1

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.shortcut = _shortcut(channels, width, stride)
        self.relu = nn.ReLU()

    def last(self) -> nn.BatchNorm2d:
        """The batch norm that ends the residual branch."""
        return self.bn2

    def forward(self, x: Tensor) -> Tensor:
        h = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        out: Tensor = self.relu(h + self.shortcut(x))
        return out


class Bottleneck(nn.Module):
    """1x1, 3x3 (with the stride), 1x1; (N, C, H, W) to (N, 4 * width, H/stride, W/stride)."""

    expansion = 4

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        out = self.expansion * width
        self.conv1 = nn.Conv2d(channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out)
        self.shortcut = _shortcut(channels, out, stride)
        self.relu = nn.ReLU()

    def last(self) -> nn.BatchNorm2d:
        """The batch norm that ends the residual branch."""
        return self.bn3

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.bn1(self.conv1(x)))
        h = F.relu(self.bn2(self.conv2(h)))
        out: Tensor = self.relu(self.bn3(self.conv3(h)) + self.shortcut(x))
        return out


BLOCKS: dict[str, type[Basic] | type[Bottleneck]] = {"basic": Basic, "bottleneck": Bottleneck}


class WideStemResNet(nn.Module):
    """Stages with first strides 1, 2, 2, 2; logits (N, classes) of images (N, channels, H, W)."""

    def __init__(
        self,
        classes: int,
        channels: int,
        block: type[Basic] | type[Bottleneck],
        blocks: list[int],
        zero_init: bool,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, WIDTHS[0], 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(WIDTHS[0])
        self.relu = nn.ReLU()
        before = WIDTHS[0]
        for position, (width, count) in enumerate(zip(WIDTHS, blocks, strict=True)):
            layers = [block(before, width, 1 if position == 0 else 2)]
            before = block.expansion * width
            layers += [block(before, width, 1) for _ in range(count - 1)]
            self.add_module(f"layer{position + 1}", nn.Sequential(*layers))
        self.linear = nn.Linear(before, classes)
        self.stages = ("relu", "layer1", "layer2", "layer3", "layer4")
        self.pre = ("relu", *(f"layer{s + 1}.{count - 1}.relu:in" for s, count in enumerate(blocks)))
        self.head = "linear"
        he_fan_out(self)
        if zero_init:
            for module in self.modules():
                if isinstance(module, (Basic, Bottleneck)):
                    nn.init.zeros_(module.last().weight)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        for name in self.stages[1:]:
            x = getattr(self, name)(x)
        out: Tensor = self.linear(F.adaptive_avg_pool2d(x, 1).flatten(1))
        return out


def _shortcut(channels: int, out: int, stride: int) -> nn.Module:
    if stride == 1 and channels == out:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out))
