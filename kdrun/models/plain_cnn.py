"""What small networks of tutorials have in common: convolutions in a row, a dense layer, a linear head."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn


class PlainCnn(nn.Module):
    """Logits (N, classes) of images of one size. Its stages are the ReLUs among `features`.

    dense: the layers after the flattened last map, perhaps none. width: of what the head reads.
    """

    def __init__(
        self, features: Sequence[nn.Module], dense: Sequence[nn.Module], width: int, classes: int
    ) -> None:
        super().__init__()
        self.features = nn.Sequential(*features)
        self.flatten = nn.Flatten()
        self.dense = nn.Sequential(*dense)
        self.classifier = nn.Linear(width, classes)
        relus = [place for place, layer in enumerate(features) if isinstance(layer, nn.ReLU)]
        self.stages = tuple(f"features.{place}" for place in relus)
        self.pre = tuple(f"features.{place}:in" for place in relus)
        self.head = "classifier"

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.classifier(self.dense(self.flatten(self.features(x))))
        return out
