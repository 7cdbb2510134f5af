"""MobileNet for ImageNet: mobilenet_v1, the student of many ImageNet tables, which torchvision does not have.

Howard et al. 2017, table 1. Parameter names follow the checkpoints that distillation papers publish.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from kdrun.errors import KdrunError
from kdrun.models.family import Draft
from kdrun.models.initial import he_fan_out
from kdrun.models.stems import CIFAR_NOTE, is_small
from kdrun.quantities import Factor

STRIDES = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1)
WIDTHS = (64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024)


def build(*, classes: int, channels: int, native_size: tuple[int, int], stem: str, width: Factor) -> Draft:
    """All widths times `width`. stem: imagenet (stride 2), cifar (stride 1), or auto, by the images' size."""
    if int(32 * width) < 1:
        raise KdrunError("width", width, f"leaves a layer without channels; {1 / 32:g} or more is needed")
    small = stem == "cifar" or (stem == "auto" and is_small(native_size))
    return Draft(MobileNetV1(classes, channels, 1 if small else 2, width), (CIFAR_NOTE,) if small else ())


class MobileNetV1(nn.Module):
    """Logits (N, classes) of images (N, channels, H, W)."""

    def __init__(self, classes: int, channels: int, stem_stride: int, width: float) -> None:
        super().__init__()
        before = int(32 * width)
        self.model = nn.Sequential(
            nn.Sequential(
                nn.Conv2d(channels, before, 3, stem_stride, 1, bias=False), nn.BatchNorm2d(before), nn.ReLU()
            )
        )
        for stride, full in zip(STRIDES, WIDTHS, strict=True):
            self.model.append(_separable(before, int(full * width), stride))
            before = int(full * width)
        self.fc = nn.Linear(before, classes)
        self.stages = ("model.0", "model.1", "model.3", "model.5", "model.11", "model.13")
        self.pre = ("model.0", *(f"{name}.5:in" for name in self.stages[1:]))
        self.head = "fc"
        he_fan_out(self)

    def forward(self, x: Tensor) -> Tensor:
        x = self.model(x)
        out: Tensor = self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))
        return out


def _separable(channels: int, out: int, stride: int) -> nn.Sequential:
    """Depthwise 3x3, then 1x1, each with batch norm and ReLU."""
    return nn.Sequential(
        nn.Conv2d(channels, channels, 3, stride, 1, groups=channels, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
        nn.Conv2d(channels, out, 1, bias=False),
        nn.BatchNorm2d(out),
        nn.ReLU(),
    )
