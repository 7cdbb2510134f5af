"""What a step on a GPU can do without: small kernels that a learner's forward and backward pass launch.

In a CUDA graph each kernel still takes one or two microseconds, and a small student has hundreds.
`counters`: batch norms count their batches one by one; here one kernel counts all. `shadows`: autocast
converts each weight to bf16, and each gradient back; here one kernel converts all weights, and one all
gradients. `softmax`: the teacher's softened probabilities are kept with its answers. `pixels`: images end in
bf16, as their first reader would convert them. With all of them, a step leaves the same bits as without.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.overrides import TorchFunctionMode

from kdrun.models.dry import dry_forward
from kdrun.models.heads import ExactLinear

COUNTERS, SHADOWS, SOFTMAX, PIXELS = "counters", "shadows", "softmax", "pixels"
SAVINGS = (COUNTERS, SHADOWS, SOFTMAX, PIXELS)

Place = tuple[nn.Module, str]
"""A module and the name of one of its parameters."""


class Saving:
    """A learner's forward pass with savings, and what is left to do after its backward pass. names: what is
    saved. image_shape: (C, H, W). dtype: in which autocast computes.
    """

    def __init__(
        self,
        model: nn.Module,
        names: Collection[str],
        image_shape: tuple[int, int, int],
        dtype: torch.dtype = torch.bfloat16,
    ) -> None:
        norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
        counting = [norm for norm in norms if norm.num_batches_tracked is not None]
        self.norms = [n for n in counting if n.momentum is not None] if COUNTERS in names else []
        self.places = _converted(model, image_shape) if SHADOWS in names else []
        self.weights = [module._parameters[name] for module, name in self.places]
        self.shadows: list[Tensor] = [nn.Parameter(_of(weight).detach().to(dtype)) for weight in self.weights]

    @contextmanager
    def forward(self) -> Iterator[None]:
        """The block in which the model runs."""
        if self.shadows:
            with torch.no_grad():
                torch._foreach_copy_(self.shadows, list(map(_of, self.weights)))
        counters, counts = [norm.num_batches_tracked for norm in self.norms], [_Count() for _ in self.norms]
        try:
            _put(self.places, self.shadows)
            for norm, count in zip(self.norms, counts, strict=True):
                norm._buffers["num_batches_tracked"] = count  # type: ignore[assignment]
            yield
        finally:
            _put(self.places, self.weights)
            for norm, counter in zip(self.norms, counters, strict=True):
                norm._buffers["num_batches_tracked"] = counter
        pairs = zip(counters, counts, strict=True)
        if seen := [(_of(counter), count.seen) for counter, count in pairs if count.seen]:
            torch._foreach_add_([counter for counter, _ in seen], [number for _, number in seen])

    def give(self) -> None:
        """After the backward pass: the gradients of the shadows become those of the weights."""
        pairs = [(_of(w), shadow) for w, shadow in zip(self.weights, self.shadows, strict=True)]
        pairs = [(weight, shadow) for weight, shadow in pairs if shadow.grad is not None]
        if not pairs:
            return
        gradients = [torch.empty_like(weight, requires_grad=False) for weight, _ in pairs]
        torch._foreach_copy_(gradients, [_of(shadow.grad) for _, shadow in pairs])
        for (weight, shadow), gradient in zip(pairs, gradients, strict=True):
            weight.grad, shadow.grad = gradient, None


class _Count:
    """Takes the place of a norm's counter. seen: batches since."""

    def __init__(self) -> None:
        self.seen = 0

    def add_(self, number: int) -> None:
        self.seen += number


def _converted(model: nn.Module, image_shape: tuple[int, int, int]) -> list[Place]:
    """Weights that learn and that autocast converts once in a forward: of layers called once, not shared."""
    calls: list[nn.Module] = []
    layers = [
        layer
        for layer in model.modules()
        if isinstance(layer, (_ConvNd, nn.Linear)) and type(layer) is not ExactLinear
    ]
    with ExitStack() as hooks:
        for layer in layers:
            hooks.enter_context(layer.register_forward_pre_hook(lambda module, _: calls.append(module)))
        dry_forward(model, image_shape)
    places = [(layer, name) for layer in layers if calls.count(layer) == 1 for name in layer._parameters]
    owners = [id(tensor) for module in model.modules() for tensor in module._parameters.values()]
    weights = [(place, place[0]._parameters[place[1]]) for place in places]
    return [
        place for place, weight in weights
        if weight is not None and weight.requires_grad and owners.count(id(weight)) == 1
    ]  # fmt: skip


def _put(places: list[Place], weights: list[Any]) -> None:
    for (module, name), weight in zip(places, weights, strict=True):
        module._parameters[name] = weight


def _of(tensor: Tensor | None) -> Tensor:
    assert tensor is not None
    return tensor


def convolution_reads_first(model: nn.Module, image_shape: tuple[int, int, int]) -> bool:
    """Whether images (C, H, W) are read by convolutions only, which autocast gives them in its precision."""
    readers = _Readers()
    hook = model.register_forward_pre_hook(lambda module, given: readers.watch(given[0]), prepend=True)
    with readers, hook:
        dry_forward(model, image_shape)
    return readers.all_convolve


class _Readers(TorchFunctionMode):
    """Whether all operations that make tensors from the watched one are convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.images: Tensor | None = None
        self.all_convolve: bool = True

    def watch(self, images: Tensor) -> None:
        self.images = images

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        given = (*args, *(kwargs or {}).values())
        if isinstance(result, Tensor) and any(value is self.images for value in given):
            self.all_convolve = self.all_convolve and bool(func is torch.conv2d)
        return result
