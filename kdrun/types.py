"""The values that data, models, losses and steps exchange: rows, batches, outputs, shapes of layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor

UNLABELLED = -1
"""The label of an image whose class is unknown to the run."""


class Rows(NamedTuple):
    """The images of a step, and the view of each. index: (N,) int64, positions in the training part. view:
    (N,) int64 codes of a finite set of views, or (N, P) float32 drawn parameters.
    """

    index: Tensor  # type: ignore[assignment]  # hides tuple.index
    view: Tensor

    def part(self, span: slice) -> Rows:
        """A span of the rows, without a copy."""
        return Rows(self.index[span], self.view[span])

    def at(self, places: Tensor) -> Rows:
        """The rows at places (M,) int64, copied."""
        return Rows(self.index.index_select(0, places), self.view.index_select(0, places))


class Batch(NamedTuple):
    """The input of a step: images (N, C, H, W) float, normalised; labels (N,) int64, -1 if unknown."""

    images: Tensor
    labels: Tensor
    rows: Rows | None = None


MISSING = -1e4
"""The logit of a class that a teacher does not know: a softmax gives it 0, and no difference is infinite."""

LUMA = (0.299, 0.587, 0.114)
"""What red, green and blue weigh in grey (ITU-R 601), as Pillow has it."""

CLASSIFIER = "@classifier"
"""The name in a mix's `needs` for the weights of a model's classifier."""

POOLED = "embedding@map"
"""The map (N, D, H, W) whose mean over positions is the embedding, in models that have one."""


class HeadWeights(NamedTuple):
    """A model's last linear layer: logits = embedding @ weight.T + bias, of (K, D) and (K,) or None."""

    weight: Tensor
    bias: Tensor | None = None


class Outputs(NamedTuple):
    """The outputs of a model for N images. Only the requested ones are filled.

    logits: (N, K). embedding: (N, D), the input of the classifier head. stages: feature maps in order, the
    stem's first. layers: tensors by name for all other layers (a module path, `stage:2@pre`). classifier: the
    model's own weights, not a row for each image; the student's are those in training.

    With several teachers: counts: (N,) bool, the images that they answer; None: all. teachers: the outputs of
    each, by its name.
    """

    logits: Tensor
    embedding: Tensor | None = None
    stages: tuple[Tensor | None, ...] = ()
    layers: Mapping[str, Tensor] = {}
    classifier: HeadWeights | None = None
    counts: Tensor | None = None
    teachers: Mapping[str, Outputs] = {}

    def named(self) -> dict[str, Tensor]:
        """The tensors that have a row for each image, by layer name, in a fixed order."""
        stages = {f"stage:{position}": stage for position, stage in enumerate(self.stages)}
        tensors = {"logits": self.logits, "embedding": self.embedding} | stages | dict(self.layers)
        return {name: tensor for name, tensor in tensors.items() if tensor is not None}

    def layer(self, name: str) -> Tensor:
        """The tensor of a layer: `logits`, `embedding`, `stage:I`, ... Raises KeyError if not requested."""
        if name == "logits":
            return self.logits
        tensor = self.embedding if name == "embedding" else self.layers.get(name)
        position = None if tensor is not None else stage_of(name)
        if position is not None and -len(self.stages) <= position < len(self.stages):
            tensor = self.stages[position]
        if tensor is None:
            raise KeyError(f"layer {name!r} was not requested")
        return tensor


def stage_of(layer: str) -> int | None:
    """The number of a stage, which can be negative, by its layer name; None for other layers."""
    is_stage = layer.startswith("stage:") and "@" not in layer
    return int(layer.removeprefix("stage:")) if is_stage else None


class Shapes(NamedTuple):
    """Shapes of a model's layers for one image, without the batch dimension.

    layers: by name: `logits`, `embedding`, every `stage:0` ... `stage:n-1`, those with `@pre` that the family
    has, and every requested module path. stages: their number, the stem included. classifier: (K, D) of the
    last layer's weight, None if that is not a linear layer.
    """

    layers: Mapping[str, tuple[int, ...]]
    stages: int
    classifier: tuple[int, int] | None = None

    def canonical(self, name: str) -> str:
        """`stage:-1` becomes `stage:3` in a model with four stages; other names do not change."""
        if not name.startswith("stage:"):
            return name
        number, at, suffix = name.removeprefix("stage:").partition("@")
        position = int(number)
        return f"stage:{position + self.stages if position < 0 else position}{at}{suffix}"

    def layer(self, name: str) -> tuple[int, ...]:
        """The shape of a layer for one image. Raises KeyError for a name the model does not have."""
        return self.layers[self.canonical(name)]
