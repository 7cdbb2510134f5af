"""A model in fake quantisation: it computes with the numbers that its int8 file will have.

Batch norms are part of the convolutions before, or frozen (static folding: Nagel et al. 2021, A White Paper
on Neural Network Quantization, 5.2.1), and dropout is off. A tensor is quantised where a layer reads it. So a
convolution, its batch norm and its ReLU are one operation, as in an int8 runtime. The output of the model is
not quantised.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from kdrun.errors import KdrunError
from kdrun.eval_mode import device_of, evaluating
from kdrun.machine import exact
from kdrun.models.fake_quantisation import Quantisation, Range
from kdrun.models.fold import TOLERANCE, folded, noise_for

WEIGHTED = {"conv2d", "linear"}
READING = {
    *("add", "add_", "__add__", "__radd__", "__iadd__", "mul", "mul_", "__mul__", "__rmul__", "__imul__"),
    *("cat", "mean", "avg_pool2d", "adaptive_avg_pool2d", "batch_norm", "layer_norm", "group_norm"),
    *("leaky_relu", "prelu", "elu", "silu", "gelu", "mish", "sigmoid", "tanh", "hardswish", "hardsigmoid"),
}
"""Operations that read quantised values and give new ones, like the weighted layers."""

OUT_OF_PLACE: dict[str, Callable[..., Any]] = {
    **dict.fromkeys(("add_", "__iadd__"), torch.add),
    **dict.fromkeys(("mul_", "__imul__"), torch.mul),
}
"""What is called in place of an operation that would write into a quantised value."""

MOVING_VALUES = {
    *("max_pool2d", "adaptive_max_pool2d", "pad", "flatten", "reshape", "view", "permute", "transpose"),
    *("contiguous", "chunk", "split", "__getitem__", "squeeze", "unsqueeze", "dropout", "dropout2d"),
}
"""Operations that only choose among values: what they give has the range of what they read."""

FUSED = {"relu", "relu_", "relu6", "hardtanh", "clamp"}
"""Part of the operation before."""

NAME = "quantisation"
"""The attribute of a model that holds its ranges."""


class _Forward(TorchFunctionMode):
    """One forward of a quantised model. known: for each tensor the range that it is in, and the tensor."""

    def __init__(self, own: Quantisation) -> None:
        super().__init__()
        self.own, self.ranges, self.layers = own, 0, 0
        self.known: dict[int, tuple[int, Tensor]] = {}
        self.read: dict[int, tuple[Tensor, Tensor]] = {}
        self.seen: list[tuple[int, Tensor, Tensor | None]] = []

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name, kwargs = getattr(func, "__name__", ""), kwargs or {}
        if name in WEIGHTED:
            return self._weighted(func, args, kwargs)
        if name in READING:
            return OUT_OF_PLACE.get(name, func)(*self._quantised(args), **kwargs)
        if name in MOVING_VALUES or (name in FUSED and args and id(args[0]) in self.known):
            return self._moved(func, args, kwargs)
        return func(*args, **kwargs)

    def _weighted(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        named = dict(zip(("input", "weight", "bias"), args, strict=False)) | kwargs
        layer, self.layers = self.layers, self.layers + 1
        self.own.layers = max(self.own.layers, self.layers)
        x, number = self._read(named["input"])
        self.seen.append((number, named["weight"], named.get("bias")))
        weight, bias = self.own.weights(number, layer, named["weight"], named.get("bias"))
        rest = {key: value for key, value in kwargs.items() if key not in ("input", "weight", "bias")}
        made: Tensor = func(x, weight, bias, *args[3:], **rest)
        return made

    def _quantised(self, values: Any) -> Any:
        """The same with each tensor of images quantised: weights are parameters, statistics (N,)."""
        if isinstance(values, Tensor):
            own = values.is_floating_point() and values.dim() > 1 and not isinstance(values, nn.Parameter)
            return self._read(values)[0] if own else values
        if isinstance(values, (tuple, list)):
            return type(values)(self._quantised(value) for value in values)
        return values

    def _read(self, x: Tensor) -> tuple[Tensor, int]:
        """x quantised, once for all that read it, and the number of its range."""
        if id(x) not in self.read:
            first = id(x) not in self.known
            number = self._next() if first else self.known[id(x)][0]
            done = self.own.activation(number, x, first)
            self.known[id(x)], self.known[id(done)] = (number, x), (number, done)
            self.read[id(x)], self.read[id(done)] = (done, x), (done, done)
        done = self.read[id(x)][0]
        return done, self.known[id(x)][0]

    def _next(self) -> int:
        """The number of a new range; the ranges of a forward come in the order of the first one."""
        number, self.ranges = self.ranges, self.ranges + 1
        if number == len(self.own.ranges):
            if self.own.phase != "found":
                problem = "the model computes in another order from batch to batch"
                raise KdrunError("quantise", "int8", problem)
            self.own.ranges.append(Range())
        return number

    def _moved(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if not args or not isinstance(args[0], Tensor) or not args[0].is_floating_point():
            return func(*args, **kwargs)
        x = args[0]
        if id(x) not in self.known or id(x) in self.read:  # else it has been moved before: read at the end
            x = self._read(x)[0]
        number = self.known[id(x)][0]
        made = func(x, *args[1:], **kwargs)
        for each in made if isinstance(made, (tuple, list)) else (made,):
            if id(each) not in self.known:
                self.known[id(each)] = (number, each)
        return made


def quantised(model: nn.Module, image_shape: tuple[int, int, int], bits: int) -> nn.Module:
    """A copy of a model with its norms folded, which computes with fake quantisation; its ranges are empty
    until `calibrated`. Module paths stay. The image that enters its network (resized and normalised anew, if
    it does that) is the first activation. Raises KdrunError for a model without a layer to quantise.
    """
    small = folded(model, image_shape)
    for parameter in small.parameters():
        parameter.requires_grad_(True)
    own = Quantisation(bits)
    small.add_module(NAME, own)
    small.register_forward_pre_hook(_enter)
    small.register_forward_hook(_leave, always_call=True)
    noise = noise_for(small, image_shape)
    with evaluating(small), evaluating(model), torch.no_grad(), exact():
        changed = (small(noise) - model(noise)).abs().max() > TOLERANCE * model(noise).abs().max()
    if changed:
        raise KdrunError("quantise", "int8", "the model writes into its tensors, and so cannot be quantised")
    for each in own.ranges:
        each.reset()  # type: ignore[operator]
    if not own.layers:
        raise KdrunError("quantise", "int8", "the model has no convolution or linear layer that torch calls")
    own.phase = "fake"
    return small


def calibrated(model: nn.Module, batches: Iterable[Tensor]) -> nn.Module:
    """The same model, whose ranges are the smallest and largest values on these images (N, C, H, W)."""
    own = quantisation(model)
    own.phase = "seen"
    try:
        with evaluating(model), torch.no_grad():
            for images in batches:
                model(images)
    finally:
        own.phase = "fake"
    return model


def quantisation(model: nn.Module) -> Quantisation:
    """That of a quantised model."""
    own = model.get_submodule(NAME)
    assert isinstance(own, Quantisation)
    return own


def layers_of(model: nn.Module, image_shape: tuple[int, int, int]) -> list[tuple[int, Tensor, Tensor | None]]:
    """For each layer in the order of a forward: the number of the range that it reads, weight, bias."""
    own, found = quantisation(model), []
    hook = model.register_forward_hook(lambda *_: found.extend(own.running[-1][0].seen), prepend=True)
    with hook, evaluating(model), torch.no_grad():
        model(torch.zeros(2, *image_shape, device=device_of(model)))
    return found


def _enter(model: nn.Module, images: tuple[Tensor, ...]) -> None:
    """Before a forward. All but the ranges evaluates, so norms are frozen and dropout is off."""
    own = quantisation(model)
    for module in model.modules():
        if module is not own:
            module.training = False
    running, kind = ExitStack(), images[0].device.type
    if torch.is_autocast_enabled(kind):  # bf16 does not hold 8 bits times a scale
        running.enter_context(torch.autocast(kind, enabled=False))
    own.running.append((running.enter_context(_Forward(own)), running))


def _leave(model: nn.Module, images: Any, output: Any) -> None:
    """After a forward, also one that failed."""
    running = quantisation(model).running
    if running:
        running.pop()[1].close()
