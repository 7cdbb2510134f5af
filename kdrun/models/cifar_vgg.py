"""VGG with batch norm for 32x32 images and a single linear layer: vgg8, vgg11_cifar ... vgg19_cifar.

Simonyan and Zisserman 2015, in the form of the zoo of Tian et al. 2020: five blocks, pooled after the first
three, no layers of 4096. Convolutions keep a bias although batch norm follows. Features are taken before
pooling.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from kdrun.errors import KdrunError
from kdrun.models.initial import he_fan_out, narrow_linear
from kdrun.quantities import Layers

WIDTHS = (64, 128, 256, 512, 512)


class CifarVgg(nn.Module):
    """Logits (N, classes) of images (N, channels, H, W), with `convs` convolutions in its five blocks."""

    def __init__(self, *, classes: int, channels: int, convs: list[Layers]) -> None:
        super().__init__()
        if len(convs) != len(WIDTHS):
            raise KdrunError("convs", convs, "five counts are needed")
        before = channels
        for position, (width, count) in enumerate(zip(WIDTHS, convs, strict=True)):
            self.add_module(f"block{position}", _block(before, width, count))
            self.add_module(f"relu{position}", nn.ReLU())
            before = width
        self.classifier = nn.Linear(before, classes)
        self.stages = tuple(f"relu{position}" for position in range(len(WIDTHS)))
        self.pre = ("relu0", *(f"block{position}" for position in range(1, len(WIDTHS))))
        self.head = "classifier"
        he_fan_out(self)
        narrow_linear(self.classifier)

    def forward(self, x: Tensor) -> Tensor:
        pools = {0, 1, 2, 3} if x.shape[-1] == 64 else {0, 1, 2}
        for position, relu in enumerate(self.stages):
            x = getattr(self, relu)(getattr(self, f"block{position}")(x))
            if position in pools:
                x = F.max_pool2d(x, 2)
        out: Tensor = self.classifier(F.adaptive_avg_pool2d(x, 1).flatten(1))
        return out


build = CifarVgg


def _block(channels: int, width: int, count: int) -> nn.Sequential:
    """Convolution, batch norm, ReLU, `count` times, without the last ReLU."""
    layers: list[nn.Module] = []
    for _ in range(count):
        layers += [nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
        channels = width
    return nn.Sequential(*layers[:-1])
