"""The numbers of fake quantisation: ranges, scales, rounding with a straight-through gradient.

Jacob et al. 2018 (Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
Inference): weights symmetric per output channel, activations affine per tensor, with the range as a moving
mean of what was seen; biases in 32 bits. Gradients go straight through the rounding (Bengio et al. 2013), and
are zero where a value was clipped.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

LEVELS = 255
"""The highest level of an activation: 8 bits without a sign."""

MOVING = 0.01
"""The share of a batch in the moving range of an activation."""

BIAS_MOST = 2.0**30
"""The largest bias in units of its scale: a bias has 32 bits."""

TINY = 1e-12


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
    """(clamp(round(x / scale) + zero, low, high) - zero) * scale, of any shape that broadcasts. The gradient
    is that of x where the level is within the bounds, and zero elsewhere.
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
    write: in place of fake quantisation, for a file. running: the forwards that have begun.
    """

    def __init__(self, bits: int) -> None:
        super().__init__()
        self.most = 2 ** (bits - 1) - 1
        self.ranges = nn.ModuleList()
        self.layers = 0
        self.phase = "found"
        self.write: Write | None = None
        self.running: list[tuple[Any, ExitStack]] = []

    def forward(self, x: Tensor) -> Tensor:
        """x: the last part of a model that is an `nn.Sequential` changes nothing."""
        return x

    def range_of(self, number: int) -> Range:
        """The range of that number."""
        own = self.ranges[number]
        assert isinstance(own, Range)
        return own

    def activation(self, number: int, x: Tensor, first: bool) -> Tensor:
        """x through the range of that number. first: whether no value of this forward was in it before."""
        if self.write is not None:
            return self.write.activation(number, x)
        own = self.range_of(number)
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
        scale, bias_scale = self.scales(self.range_of(number), weight, bias)
        zero = torch.zeros_like(scale)
        weight = fake(weight, per_channel(scale, weight), per_channel(zero, weight), -self.most, self.most)
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


def per_channel(values: Tensor, weight: Tensor) -> Tensor:
    """Values (C,) in a shape that goes with a weight (C, ...)."""
    return values.view(-1, *[1] * (weight.dim() - 1))


class Write:
    """Quantised layers as a file has them. pair: of x, scale, zero point (uint8), stands for QuantizeLinear
    with DequantizeLinear. constant: of `Integers`, stands for DequantizeLinear.
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
