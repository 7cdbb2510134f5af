"""Post-activation ResNets for 32x32 images: resnet8 ... resnet110, resnet8x4, resnet32x4.

He et al. 2016, section 4.2, with projection shortcuts (option B) if the size changes, as in the zoo of
Tian et al. 2020; the paper pads with zeros there (option A) and so has fewer parameters.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from kdrun.errors import KdrunError
from kdrun.models.initial import he_fan_out
from kdrun.quantities import Count, Layers


def build(*, classes: int, channels: int, depth: Layers, stem_width: Count, widths: list[Count]) -> nn.Module:
    """A ResNet of `depth` = 6n + 2 weight layers, n blocks in each stage. Raises KdrunError for other depths.

    stem_width: channels of the first convolution. widths: channels of the stages.
    """
    if depth < 8 or (depth - 2) % 6:
        raise KdrunError("depth", depth, "6n + 2 is needed", [str(6 * n + 2) for n in range(1, 19)])
    return CifarResNet(classes, channels, (depth - 2) // 6, stem_width, widths)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut; (N, C, H, W) to (N, width, H/stride, W/stride)."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or channels != width:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels, width, 1, stride, bias=False), nn.BatchNorm2d(width)
            )
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        h = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        out: Tensor = self.relu(h + self.downsample(x))
        return out


class CifarResNet(nn.Module):
    """Stages with first strides 1, 2, 2, ...; logits (N, classes) of images (N, channels, H, W)."""

    def __init__(self, classes: int, channels: int, blocks: int, stem_width: int, widths: list[int]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, stem_width, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(stem_width)
        self.relu = nn.ReLU()
        names, before = [], stem_width
        for position, width in enumerate(widths):
            layers = [BasicBlock(before, width, 1 if position == 0 else 2)]
            layers += [BasicBlock(width, width, 1) for _ in range(blocks - 1)]
            names.append(f"layer{position + 1}")
            self.add_module(names[-1], nn.Sequential(*layers))
            before = width
        self.fc = nn.Linear(before, classes)
        self.stages = ("relu", *names)
        self.pre = ("relu", *(f"{name}.{blocks - 1}.relu:in" for name in names))
        self.head = "fc"
        he_fan_out(self)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        for name in self.stages[1:]:
            x = getattr(self, name)(x)
        out: Tensor = self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))
        return out
