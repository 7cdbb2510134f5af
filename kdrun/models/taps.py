"""Taps: a model's inner layers by name, besides its logits.

Names: `logits`; `embedding`, the input of the head; `embedding@map`, the map whose mean that is; `stage:0`
(the stem) ... `stage:-1`; `stages`, all of them; with `@pre`, before the activation, if the family has it; or
a module path, and `PATH:in` for that module's input. Stages are feature maps (N, C, H, W), also those of a
transformer: its patches, without the tokens before them. Module paths of a transformer give the tokens as
they are.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import closing
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from kdrun.errors import KdrunError
from kdrun.eval_mode import evaluating
from kdrun.models.dry import dry_forward
from kdrun.models.survey import anatomy, first_tensor, head_of, survey
from kdrun.types import CLASSIFIER, POOLED, HeadWeights, Outputs, Shapes, stage_of


class Tap(NamedTuple):
    """A tensor in a model. inward: a module's input. nhwc: channels last. grid: (H, W) of its last tokens."""

    path: str
    inward: bool = False
    nhwc: bool = False
    grid: tuple[int, int] | None = None

    @classmethod
    def parse(cls, text: str) -> Tap:
        """`layer1`, `layer1.2.relu:in`, `features.1:nhwc`, `blocks.3:14x14`."""
        path, _, suffix = text.partition(":")
        height, by, width = suffix.partition("x")
        grid = (int(height), int(width)) if by else None
        return cls(path, suffix == "in", suffix == "nhwc", grid)

    def laid_out(self, tensor: Tensor) -> Tensor:
        """The tensor with its channels first."""
        if self.grid is not None:
            patches = tensor[:, -self.grid[0] * self.grid[1] :]
            return patches.transpose(1, 2).reshape(len(patches), -1, *self.grid)
        return tensor.permute(0, 3, 1, 2) if self.nhwc else tensor

    def __str__(self) -> str:
        return f"{self.path}:in" if self.inward else self.path


class Tapped(nn.Module):
    """A model that also gives layers: images (N, C, H, W) to Outputs with the layers in `needs`, names as
    above. `close` removes the taps from the model. One that was not made by `kdrun.models.build` and states
    no stages must be probed before these are needed. key: of a KdrunError about an unknown layer.
    """

    def __init__(self, model: nn.Module, needs: Collection[str], key: str = "layer") -> None:
        super().__init__()
        self.model = model
        self._taps = {name: tap for layer in needs for name, tap in _resolved(model, layer, key)}
        self._stages = len(anatomy(model).stages)
        self._head = CLASSIFIER in needs
        self._open = _Open()
        self._key = key
        overwritten = anatomy(model).overwritten
        self._handles = [
            _hook(model, tap, self._open, overwritten is None or str(tap) in overwritten)
            for tap in dict.fromkeys(self._taps.values())
        ]

    def forward(self, images: Tensor) -> Outputs:
        """Raises KdrunError if a module in `needs` is not called, or its tensor is overwritten."""
        head = classifier(self.model) if self._head else None
        if not self._taps:
            return Outputs(logits=self.model(images), classifier=head)
        kept: dict[Tap, tuple[Tensor, int]] = {}
        self._open.kept = kept
        try:
            logits = self.model(images)
        finally:
            self._open.kept = None
        tensors: dict[str, Tensor] = {}
        for name, tap in self._taps.items():
            if tap not in kept:
                problem = "the model does not call this module, or it gives no tensor"
                raise KdrunError(self._key, name, problem)
            tensors[name], version = kept[tap]
            if _version(tensors[name]) != version:
                problem = "a later layer overwrites this tensor in place; a layer before or after it may do"
                raise KdrunError(self._key, name, problem)
        return self._outputs(logits, tensors, head)

    def close(self) -> None:
        """Removes the taps from the model."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def _outputs(self, logits: Tensor, tensors: dict[str, Tensor], head: HeadWeights | None) -> Outputs:
        embedding = tensors.pop("embedding", None)
        stages: list[Tensor | None] = [None] * self._stages
        layers: dict[str, Tensor] = {}
        for name, tensor in tensors.items():
            if (position := stage_of(name)) is not None:
                stages[position] = tensor
            else:
                layers[name] = tensor
        any_stage = any(stage is not None for stage in stages)
        vector = None if embedding is None else _as_vector(embedding)
        return Outputs(logits, vector, tuple(stages) if any_stage else (), layers, head)


def probe(
    model: nn.Module, image_shape: tuple[int, int, int], layers: Collection[str] = (), key: str = "layer"
) -> Shapes:
    """The shapes of a model's layers for one image (C, H, W): the standard ones, and `layers`.

    A dry forward, which changes nothing. A model that states no stages has them afterwards. POOLED is given
    if it is in `layers` and noise shows that its mean is the embedding. Raises KdrunError under `key` for
    another layer that the model does not have.
    """
    count = len(survey(model, image_shape).stages)
    if POOLED in layers and not reads_mean(model, image_shape):
        layers = [name for name in layers if name != POOLED]
    tapped = Tapped(model, [*_standard_names(model), *layers], key)
    with closing(tapped):
        outputs: Outputs = dry_forward(tapped, image_shape)
    single = (name for name in layers if name != "stages")
    names = dict.fromkeys([*_standard_names(model), *single])
    shapes = Shapes({}, count)
    sizes = {shapes.canonical(name): tuple(outputs.layer(name).shape[1:]) for name in names}
    head = classifier(model)
    size = None if head is None else (head.weight.shape[0], head.weight.shape[1])
    return Shapes(sizes, count, size)


def classifier(model: nn.Module) -> HeadWeights | None:
    """The weights of the model's head, None if that is no linear layer."""
    head = head_of(model)
    return HeadWeights(head.weight, head.bias) if isinstance(head, nn.Linear) else None


def reads_mean(model: nn.Module, image_shape: tuple[int, int, int]) -> bool:
    """Whether the head is a linear layer whose input is the mean of a map, as a forward of noise shows."""
    if classifier(model) is None or not survey(model, image_shape).pooled:
        return False
    tapped = Tapped(model, [POOLED, "embedding"])
    noise = torch.rand(2, *image_shape, generator=torch.Generator().manual_seed(0))
    noise = noise.to(next(model.parameters()))
    with closing(tapped), evaluating(tapped), torch.no_grad():
        outputs: Outputs = tapped(noise)
    mean, read = outputs.layer(POOLED).mean((2, 3)), outputs.layer("embedding")
    return mean.shape == read.shape and torch.allclose(mean, read, rtol=1e-3, atol=1e-4)


def layer_names(model: nn.Module) -> list[str]:
    """All layer names of the model, the standard ones first."""
    return ["stages", *_standard_names(model), *(path for path, _ in model.named_modules() if path)]


class _Open:
    """Holds the tensors of hooks during a forward. Afterwards it is None, so that nothing stays alive."""

    def __init__(self) -> None:
        self.kept: dict[Tap, tuple[Tensor, int]] | None = None


class _Keep:
    """A forward (pre-)hook that keeps one tensor. It is no closure, so that it is copied with a model."""

    def __init__(self, tap: Tap, place: _Open, copies: bool) -> None:
        self.tap, self.place, self.copies = tap, place, copies

    def __call__(self, module: nn.Module, args: Any, output: Any = None) -> None:
        if self.place.kept is None:
            return
        tensor = _side_by_side(args) if self.tap.inward else first_tensor(output)
        if tensor is not None:
            tensor = self.tap.laid_out(tensor)
            tensor = tensor.clone() if self.copies else tensor
            self.place.kept[self.tap] = (tensor, _version(tensor))


def _hook(model: nn.Module, tap: Tap, place: _Open, copies: bool) -> torch.utils.hooks.RemovableHandle:
    module, keep = model.get_submodule(tap.path), _Keep(tap, place, copies)
    return module.register_forward_pre_hook(keep) if tap.inward else module.register_forward_hook(keep)


def _resolved(model: nn.Module, name: str, key: str) -> Iterator[tuple[str, Tap]]:
    """The taps that a layer name stands for. Raises KdrunError."""
    if name in ("logits", CLASSIFIER):
        return
    if name == "stages":
        for position, stage in enumerate(anatomy(model).stages):
            yield f"stage:{position}", Tap.parse(stage)
        return
    tap = _locate(model, name)
    if tap is None:
        raise KdrunError(key, name, "the model has no such layer", layer_names(model))
    yield name, tap


def _locate(model: nn.Module, name: str) -> Tap | None:
    if name == "embedding":
        head = anatomy(model).head
        return Tap(head, inward=True) if head else None
    if name == POOLED:
        return Tap.parse(anatomy(model).pooled) if anatomy(model).pooled else None
    if name.startswith("stage:"):
        number, at, suffix = name.removeprefix("stage:").partition("@")
        known = anatomy(model).stages if not at else anatomy(model).pre if suffix == "pre" else ()
        position = int(number) if number.removeprefix("-").isdecimal() else len(known)
        return Tap.parse(known[position]) if -len(known) <= position < len(known) else None
    path, colon, suffix = name.partition(":")
    if not path or (colon and suffix != "in"):
        return None
    return Tap.parse(name) if path in dict(model.named_modules()) else None


def _standard_names(model: nn.Module) -> list[str]:
    embedding = ["embedding"] if _locate(model, "embedding") is not None else []
    stages = [f"stage:{position}" for position in range(len(anatomy(model).stages))]
    pre = [f"stage:{position}@pre" for position in range(len(anatomy(model).pre))]
    return ["logits", *embedding, *stages, *pre]


def _as_vector(embedding: Tensor) -> Tensor:
    """(N, D): the input of a linear head, flattened; that of a convolutional one, averaged over positions."""
    return embedding.mean((2, 3)) if embedding.dim() == 4 else embedding.flatten(1)


def _side_by_side(args: tuple[Any, ...]) -> Tensor | None:
    """A module's input: one tensor, or several of one batch joined along their channels."""
    tensors = [value for value in args if isinstance(value, Tensor)]
    if len(tensors) < 2:
        return tensors[0] if tensors else None
    return torch.cat(tensors, 1)


def _version(tensor: Tensor) -> int:
    """How often torch wrote into the tensor in place; 0 for inference tensors and in compiled graphs."""
    return 0 if torch.compiler.is_compiling() or tensor.is_inference() else tensor._version
