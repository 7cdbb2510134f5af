"""What data, models, losses and the training step exchange: rows, batches, outputs and layer shapes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor

UNLABELLED = -1
"""The label of an image whose class the run may not know."""


class Rows(NamedTuple):
    """Which images a step sees, and how each is augmented.

    index: (N,) int64, positions in the training part.
    view: (N,) int64 codes of a finite set of views, or (N, P) float32 drawn parameters.
    """

    index: Tensor  # type: ignore[assignment]  # hides tuple.index, which nobody needs here
    view: Tensor

    def part(self, where: slice) -> Rows:
        """Some of the rows that follow each other, without a copy."""
        return Rows(self.index[where], self.view[where])

    def at(self, places: Tensor) -> Rows:
        """The rows at places (M,) int64, copied."""
        return Rows(self.index.index_select(0, places), self.view.index_select(0, places))


class Batch(NamedTuple):
    """What a step trains on.

    images: (N, C, H, W) float, normalised. labels: (N,) int64, UNLABELLED (-1) where unknown.
    """

    images: Tensor
    labels: Tensor
    rows: Rows | None = None


CLASSIFIER = "@classifier"
"""The name under which a mix asks for a model's own classifier, as it does for layers."""


POOLED = "embedding@map"
"""The map (N, D, H, W) whose mean over positions is the embedding, in models that have one."""


class Classifier(NamedTuple):
    """The weights of a model's last linear layer: logits = embedding @ weight.T + bias.

    weight: (K, D). bias: (K,), or None.
    """

    weight: Tensor
    bias: Tensor | None = None


class Outputs(NamedTuple):
    """The outputs of a model for N images; only what was asked for is filled.

    logits: (N, K). embedding: (N, D), what the classifier head sees. stages: feature maps in order, the
    stem's first.
    layers: tensors by layer name, for names that are none of these (a module path, `stage:2@pre`).
    classifier: the model's own weights, not one row for each image; the student's are those that it trains.
    """

    logits: Tensor
    embedding: Tensor | None = None
    stages: tuple[Tensor | None, ...] = ()
    layers: Mapping[str, Tensor] = {}
    classifier: Classifier | None = None

    def layer(self, name: str) -> Tensor:
        """The tensor of a layer by name: `logits`, `embedding`, `stage:I` (I may be negative), or another
        name asked for.

        Raises KeyError if the model was not asked for that layer.
        """
        if name == "logits":
            return self.logits
        tensor = self.embedding if name == "embedding" else self.layers.get(name)
        if tensor is None and name.startswith("stage:") and "@" not in name:
            position = int(name.removeprefix("stage:"))
            if -len(self.stages) <= position < len(self.stages):
                tensor = self.stages[position]
        if tensor is None:
            raise KeyError(f"the model was not asked for layer {name!r}")
        return tensor


class Shapes(NamedTuple):
    """Shapes of a model's layers for one image (no batch dimension), found by a probe.

    layers: by name: `logits`, `embedding`, every `stage:0` ... `stage:n-1`, those with `@pre` that the family
    has, and every module path that was asked for. stages: how many stages there are, the stem counted.
    classifier: (K, D) of the last layer's weight, None if the last layer is not a linear one.
    """

    layers: Mapping[str, tuple[int, ...]]
    stages: int
    classifier: tuple[int, int] | None = None

    def names(self) -> tuple[str, ...]:
        """All layer names, as a choice to offer in an error."""
        return tuple(self.layers)

    def canonical(self, name: str) -> str:
        """`stage:-1` as `stage:3` of a model with four stages; any other name as it is."""
        if not name.startswith("stage:"):
            return name
        number, at, suffix = name.removeprefix("stage:").partition("@")
        position = int(number)
        return f"stage:{position + self.stages if position < 0 else position}{at}{suffix}"

    def layer(self, name: str) -> tuple[int, ...]:
        """The shape of a layer for one image. Raises KeyError for a name the model does not have."""
        return self.layers[self.canonical(name)]
