"""What the networks of the CIFAR zoo have in common: a stem, and stages of blocks in a row."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import Tensor, nn
from torch.nn import functional as F


class Staged(nn.Module):
    """Logits (N, classes) of images (N, channels, H, W): a stem, and stages `layer1`, `layer2` ... whose last
    blocks end with a module `end`.

    stages: the blocks of each, made after the stem, so that initial weights are drawn in order. tail, head:
    names of layers after them, which a subclass makes; the head reads the mean over positions.
    """

    tail: tuple[str, ...] = ()

    def __init__(self, stem: nn.Conv2d, stages: Iterable[Sequence[nn.Module]], end: str, head: str) -> None:
        super().__init__()
        self.conv1, self.bn1, self.relu = stem, nn.BatchNorm2d(stem.out_channels), nn.ReLU()
        names, ends = ["relu"], ["relu"]
        for position, blocks in enumerate(stages, 1):
            names.append(f"layer{position}")
            ends.append(f"layer{position}.{len(blocks) - 1}.{end}:in")
            self.add_module(names[-1], nn.Sequential(*blocks))
        self.stages, self.pre, self.head = tuple(names), tuple(ends), head

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        for name in (*self.stages[1:], *self.tail):
            x = getattr(self, name)(x)
        out: Tensor = getattr(self, self.head)(F.adaptive_avg_pool2d(x, 1).flatten(1))
        return out
