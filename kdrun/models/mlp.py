"""Fully connected networks: mlp1200 and mlp800, the pair of Hinton et al. 2015, section 3, and others."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from kdrun.errors import KdrunError
from kdrun.quantities import Count


class Mlp(nn.Module):
    """Logits (N, classes): ReLU layers of these widths on the flattened image. Stages are vectors (N, width).

    dropout: after each of the layers. Raises KdrunError.
    """

    def __init__(
        self, *, classes: int, channels: int, image_size: tuple[int, int], widths: list[Count], dropout: float
    ) -> None:
        super().__init__()
        if not 0 <= dropout < 1:
            raise KdrunError("dropout", dropout, "a number from 0 up to, not including, 1 is needed")
        inputs = channels * image_size[0] * image_size[1]
        self.flatten = nn.Flatten()
        self.hidden = nn.Sequential(
            *(
                nn.Sequential(nn.Linear(before, out), nn.ReLU(), nn.Dropout(dropout))
                for before, out in pairwise([inputs, *widths])
            )
        )
        self.classifier = nn.Linear(widths[-1], classes)
        self.stages = tuple(f"hidden.{position}.1" for position in range(len(widths)))
        self.pre = tuple(f"hidden.{position}.0" for position in range(len(widths)))
        self.head = "classifier"

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.classifier(self.hidden(self.flatten(x)))
        return out


build = Mlp
