"""Fake quantisation: a float model that computes with the numbers that its int8 file will have.

Jacob et al. 2018 (Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
Inference): weights symmetric per output channel, activations affine per tensor, with the range as a moving
mean of what was seen; biases in 32 bits. Gradients go straight through the rounding (Bengio et al. 2013), and
are zero where a value was clipped. Batch norms are part of the convolutions before, or frozen (static
folding: Nagel et al. 2021, A White Paper on Neural Network Quantization, 5.2.1), and dropout is off.

A tensor is quantised where a layer reads it. So a convolution, its batch norm and its ReLU are one operation,
as in an int8 runtime. The output of the model is not quantised.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from kdrun.errors import KdrunError
from kdrun.eval_mode import evaluating
from kdrun.machine import exact
from kdrun.models.fold import TOLERANCE, folded

LEVELS = 255
"""The highest level of an activation: 8 bits without a sign."""

MOVING = 0.01
"""The share of a batch in the moving range of an activation."""

BIAS_MOST = 2.0**30
"""The largest bias in units of its scale: a bias has 32 bits."""

TINY = 1e-12

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


class _Straight(torch.autograd.Function):
    """Rounds to the levels from `low` to `high` of a scale around a zero point, and back to float."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, zero: Tensor, low: float, high: float) -> Tensor:
        level = torch.round(x / scale) + zero
        ctx.save_for_backward((level >= low) & (level <= high))
        return (level.clamp(low, high) - zero) * scale

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (inside,) = ctx.saved_tensors
        return gradient * inside, None, None, None, None


def fake(x: Tensor, scale: Tensor, zero: Tensor, low: float, high: float) -> Tensor:
    """(clamp(round(x / scale) + zero, low, high) - zero) * scale, of any shape that broadcasts.

    The gradient is that of x where the level is within the bounds, and zero elsewhere.
    """
    quantised: Tensor = _Straight.apply(x, scale, zero, low, high)
    return quantised


class Range(nn.Module):
    """The range of one activation. low, high: the smallest and largest value, 0-dim, with 0 between them."""

    low: Tensor
    high: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("low", torch.zeros(()))
        self.register_buffer("high", torch.zeros(()))

    def reset(self) -> None:
        """Nothing was seen."""
        self.low.zero_()
        self.high.zero_()

    @torch.no_grad()
    def widen(self, x: Tensor) -> None:
        """Takes in all values of x."""
        self.low.copy_(torch.minimum(self.low, x.amin()))
        self.high.copy_(torch.maximum(self.high, x.amax()))

    @torch.no_grad()
    def follow(self, x: Tensor) -> None:
        """Moves towards the range of x, which never leaves out 0."""
        self.low.lerp_(x.amin().clamp(max=0.0), MOVING)
        self.high.lerp_(x.amax().clamp(min=0.0), MOVING)

    @torch.no_grad()
    def scale(self) -> tuple[Tensor, Tensor]:
        """Scale and zero point, both 0-dim float: 0 is a level, as padding needs it."""
        scale = ((self.high - self.low) / LEVELS).clamp(min=TINY)
        return scale, torch.round(-self.low / scale).clamp(0, LEVELS)


class Integers(NamedTuple):
    """Integers (C, ...) with the scales (C,) of their channels, and zero points (C,), which are 0."""

    levels: Tensor
    scale: Tensor
    zero: Tensor


class Layer(NamedTuple):
    """A layer as a file has it: weight int8, bias int32 (empty without one)."""

    weight: Integers
    bias: Integers


class Quantisation(nn.Module):
    """What a quantised model knows beside its weights. bits: of weights, with the sign. layers: how many are
    quantised. phase: `found`: a first forward makes the ranges; `seen`: they take in what they see; `fake`.
    write: in place of fake quantisation, for a file (see `writing`).
    """

    def __init__(self, bits: int) -> None:
        super().__init__()
        self.most = 2 ** (bits - 1) - 1
        self.ranges = nn.ModuleList()
        self.layers = 0
        self.phase = "found"
        self.write: Write | None = None
        self.running: list[tuple[_Forward, ExitStack]] = []

    def forward(self, x: Tensor) -> Tensor:
        """x: the last part of a model that is an `nn.Sequential` changes nothing."""
        return x

    def activation(self, number: int, x: Tensor, first: bool) -> Tensor:
        """x through the range of that number. first: whether no value of this forward was in it before."""
        own = self.ranges[number]
        assert isinstance(own, Range)
        if self.write is not None:
            return self.write.activation(number, x)
        if self.phase != "fake":
            if first:
                own.widen(x)
            return x
        if self.training and first:
            own.follow(x)
        return fake(x, *own.scale(), 0, LEVELS)

    def weights(
        self, number: int, layer: int, weight: Tensor, bias: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Weight and bias of a layer that reads the activation of that number."""
        if self.phase != "fake":
            return weight, bias
        if self.write is not None:
            return self.write.weights(layer, bias is not None)
        own = self.ranges[number]
        assert isinstance(own, Range)
        scale, bias_scale = self.scales(own, weight, bias)
        zero = torch.zeros_like(scale)
        weight = fake(weight, _per_channel(scale, weight), _per_channel(zero, weight), -self.most, self.most)
        if bias is not None:
            bias = fake(bias, bias_scale, zero, -2 * BIAS_MOST, 2 * BIAS_MOST)
        return weight, bias

    @torch.no_grad()
    def scales(self, own: Range, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
        """Scales (C,) of weight and bias; that of the bias is the product with the activation's."""
        read = own.scale()[0]
        scale = weight.flatten(1).abs().amax(1) / self.most
        if bias is not None:
            scale = torch.maximum(scale, bias.abs() / (read * BIAS_MOST))
        scale = scale.clamp(min=TINY)
        return scale, scale * read


def _per_channel(values: Tensor, weight: Tensor) -> Tensor:
    return values.view(-1, *[1] * (weight.dim() - 1))


class Write:
    """Quantised layers as a file has them. The two functions stand for QuantizeLinear with DequantizeLinear,
    and for DequantizeLinear.

    pair: of x, scale, zero point (uint8). constant: of `Integers`.
    """

    def __init__(
        self, pair: Callable[[Tensor, Tensor, Tensor], Tensor], constant: Callable[..., Tensor]
    ) -> None:
        self.pair, self.constant = pair, constant
        self.scales: list[tuple[Tensor, Tensor]] = []
        self.layers: list[Layer] = []

    def activation(self, number: int, x: Tensor) -> Tensor:
        return self.pair(x, *self.scales[number])

    def weights(self, layer: int, has_bias: bool) -> tuple[Tensor, Tensor | None]:
        own = self.layers[layer]
        bias = self.constant(*own.bias) if has_bias else None
        return self.constant(*own.weight), bias


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
        """The same with each tensor of images quantised."""
        if isinstance(values, Tensor):
            return self._read(values)[0] if self._is_activation(values) else values
        if isinstance(values, (tuple, list)):
            return type(values)(self._quantised(value) for value in values)
        return values

    def _is_activation(self, value: Tensor) -> bool:
        """Whether it is a float tensor of images; weights are parameters, statistics have one dimension."""
        return value.is_floating_point() and value.dim() > 1 and not isinstance(value, nn.Parameter)

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
                raise KdrunError(
                    "quantise", "int8", "the model computes in another order from batch to batch"
                )
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
    """A copy of a model with its norms folded, which computes with fake quantisation.

    Its ranges are empty until `calibrated`. Module paths stay the same. The image that enters the model's
    network (resized and normalised anew, if it does that) is its first activation. Raises KdrunError for a
    model without a layer that can be quantised.
    """
    small = folded(model, image_shape)
    for parameter in small.parameters():
        parameter.requires_grad_(True)
    own = Quantisation(bits)
    small.add_module(NAME, own)
    small.register_forward_pre_hook(_enter)
    small.register_forward_hook(_leave, always_call=True)
    noise = torch.randn(2, *image_shape, generator=torch.Generator().manual_seed(0))
    noise = noise.to(next(small.parameters()))
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


@contextmanager
def writing(model: nn.Module, image_shape: tuple[int, int, int], write: Write) -> Iterator[nn.Module]:
    """A copy of a quantised model that computes by `write` within the block, with the integers and scales
    of this model.
    """
    small = copy.deepcopy(model).eval().cpu().requires_grad_(False)
    own = quantisation(small)
    with torch.no_grad():
        _fill(own, small, image_shape, write)
    own.write = write
    yield small


def _fill(own: Quantisation, model: nn.Module, image_shape: tuple[int, int, int], write: Write) -> None:
    """Gives `write` the scales of all ranges, and the integers of all layers in their order.

    They are buffers of the model too, so that a tracer finds them.
    """
    for number, each in enumerate(own.ranges):
        assert isinstance(each, Range)
        scale, zero = each.scale()
        write.scales.append((_kept(own, f"scale{number}", scale), _kept(own, f"zero{number}", zero.byte())))
    for number, (read, weight, bias) in enumerate(layers_of(model, image_shape)):
        each = own.ranges[read]
        assert isinstance(each, Range)
        scale, bias_scale = own.scales(each, weight, bias)
        levels = torch.round(weight / _per_channel(scale, weight)).clamp(-own.most, own.most)
        whole = weight.new_zeros(0) if bias is None else torch.round(bias / bias_scale)
        write.layers.append(
            Layer(
                _integers(own, f"weight{number}", levels.to(torch.int8), scale),
                _integers(own, f"bias{number}", whole.int(), bias_scale),
            )
        )


def _integers(own: Quantisation, name: str, levels: Tensor, scale: Tensor) -> Integers:
    zero = torch.zeros(scale.shape, dtype=levels.dtype)
    named = zip(("levels", "scale", "zero"), (levels, scale, zero), strict=True)
    return Integers(*(_kept(own, f"{name}_{part}", tensor) for part, tensor in named))


def layers_of(model: nn.Module, image_shape: tuple[int, int, int]) -> list[tuple[int, Tensor, Tensor | None]]:
    """The quantised layers in the order of a forward: the number of the range that each reads, its weight,
    its bias.
    """
    own, found = quantisation(model), []
    handle = model.register_forward_hook(lambda *_: found.extend(own.running[-1][0].seen), prepend=True)
    try:
        with evaluating(model), torch.no_grad():
            model(torch.zeros(2, *image_shape, device=next(model.parameters()).device))
    finally:
        handle.remove()
    return found


def _kept(own: Quantisation, name: str, tensor: Tensor) -> Tensor:
    own.register_buffer(name, tensor, persistent=False)
    return tensor


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
