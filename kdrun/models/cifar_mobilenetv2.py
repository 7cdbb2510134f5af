"""MobileNetV2 of half width for 32x32 images: mobilenetv2_half.

Sandler et al. 2018, in the form of the zoo of Tian et al. 2020: plain ReLU, an expansion layer in the first
group too, other strides, widths not rounded to multiples of 8. Stage outputs are linear: before the
activation is the same.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from kdrun.errors import KdrunError
from kdrun.models.initial import he_fan_out, narrow_linear
from kdrun.quantities import Count, Factor

GROUPS = ((16, 1, 1), (24, 2, 1), (32, 3, 2), (64, 4, 2), (96, 3, 1), (160, 3, 2), (320, 1, 1))
"""Repeated inverted residuals: width at full width, repeats, and the stride of the first one."""


class InvertedResidual(nn.Module):
    """Expand, depthwise 3x3, project; a shortcut if the shape stays."""

    def __init__(self, channels: int, out: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = channels * expansion
        self.shortcut = stride == 1 and channels == out
        self.conv = nn.Sequential(
            nn.Conv2d(channels, inner, 1, bias=False),
            nn.BatchNorm2d(inner),
            nn.ReLU(),
            nn.Conv2d(inner, inner, 3, stride, 1, groups=inner, bias=False),
            nn.BatchNorm2d(inner),
            nn.ReLU(),
            nn.Conv2d(inner, out, 1, bias=False),
            nn.BatchNorm2d(out),
        )

    def forward(self, x: Tensor) -> Tensor:
        h: Tensor = self.conv(x)
        return x + h if self.shortcut else h


class CifarMobileNetV2(nn.Module):
    """Logits (N, classes) of images (N, channels, H, W); the stem halves the size.

    width: factor of all widths but the last (1280). expansion: of all groups but the first.
    """

    def __init__(self, *, classes: int, channels: int, width: Factor, expansion: Count) -> None:
        super().__init__()
        if int(16 * width) < 1:
            problem = f"leaves a layer without channels; {1 / 16:g} or more is needed"
            raise KdrunError("width", width, problem)
        before, last = int(32 * width), 1280
        self.conv1 = _conv_bn_relu(channels, before, 3, 2)
        self.blocks = nn.Sequential()
        for full, repeats, stride in GROUPS:
            out, inner = int(full * width), expansion if len(self.blocks) else 1
            layers = [InvertedResidual(before, out, stride, inner)]
            layers += [InvertedResidual(out, out, 1, inner) for _ in range(repeats - 1)]
            self.blocks.append(nn.Sequential(*layers))
            before = out
        self.conv2 = _conv_bn_relu(before, last, 1, 1)
        head = nn.Linear(last, classes)
        self.classifier = nn.Sequential(head)
        self.stages = ("conv1", "blocks.1", "blocks.2", "blocks.4", "blocks.6")
        self.pre = self.stages
        self.head = "classifier.0"
        he_fan_out(self)
        narrow_linear(head)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv2(self.blocks(self.conv1(x)))
        out: Tensor = self.classifier(F.adaptive_avg_pool2d(x, 1).flatten(1))
        return out


build = CifarMobileNetV2


def _conv_bn_relu(channels: int, out: int, kernel: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, out, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(out), nn.ReLU()
    )
