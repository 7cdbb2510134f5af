"""ImageNet's ResNet layout with a stem for small images: resnet18_cifar and resnet50_cifar.

He et al. 2016, table 1, without the first pooling and with a 3x3 stem, as in the zoo of Tian et al. 2020.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from kdrun.errors import KdrunError
from kdrun.models.cifar_resnet import BasicBlock, CifarResNet, ResidualBlock, shortcut
from kdrun.quantities import Layers

WIDTHS = (64, 128, 256, 512)


def build(*, classes: int, channels: int, block: str, blocks: list[Layers], zero_init: bool) -> nn.Module:
    """A ResNet with `blocks` basic or bottleneck blocks in its four stages. zero_init: start each residual
    branch at zero (its last batch norm's scale). Raises KdrunError.
    """
    if block not in BLOCKS:
        raise KdrunError("block", block, "no such block", BLOCKS)
    if len(blocks) != len(WIDTHS):
        raise KdrunError("blocks", blocks, "four counts are needed")
    model = CifarResNet(classes, channels, BLOCKS[block], WIDTHS[0], WIDTHS, blocks, "linear")
    if zero_init:
        for module in model.modules():
            if isinstance(module, (Basic, Bottleneck)):
                last = module.bn2 if isinstance(module, Basic) else module.bn3
                nn.init.zeros_(last.weight)
    return model


class Basic(BasicBlock):
    """As in the narrow networks, under another name of the shortcut."""

    projection = "shortcut"


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
        self.shortcut = shortcut(channels, out, stride)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.bn1(self.conv1(x)))
        h = F.relu(self.bn2(self.conv2(h)))
        out: Tensor = self.relu(self.bn3(self.conv3(h)) + self.shortcut(x))
        return out


BLOCKS: dict[str, ResidualBlock] = {"basic": Basic, "bottleneck": Bottleneck}
