"""Writes a model with fake quantisation as an int8 ONNX file, with exactly its integers and scales."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kdrun.models.fake_quantisation import LEVELS, Integers, Layer, Quantisation, Write, fake, per_channel
from kdrun.models.formats import Student, write_onnx
from kdrun.models.quantised import layers_of, quantisation

IN_INTEGERS = (
    "QLinearConv",
    "ConvInteger",
    "QGemm",
    "QLinearMatMul",
    "MatMulInteger",
    "MatMulIntegerToFloat",
)
"""What onnxruntime calls a layer that it computes with integers."""


def write_trained(model: nn.Module, about: Mapping[str, Any], path: Path) -> None:
    """Writes a quantised model. about: the metadata of its file. Raises KdrunError."""
    plain = in_integers(model, tuple(about["image_shape"]), Write(*_operations()))
    write_onnx(Student(plain, about, lambda: torch.empty(0)), path, _translations())


def layers_in_integers(path: Path) -> int:
    """How many layers of a file onnxruntime computes with integers on this processor."""
    import onnx
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        options, optimised = onnxruntime.SessionOptions(), Path(folder) / "optimised.onnx"
        options.optimized_model_filepath, options.log_severity_level = str(optimised), 4
        onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        nodes = onnx.load(str(optimised)).graph.node
    return sum(node.op_type in IN_INTEGERS for node in nodes)


@cache
def _operations() -> tuple[Any, Any]:
    """The two operations of `Write`, which torch traces as one node each."""

    @torch.library.custom_op("kdrun::quantise_pair", mutates_args=())
    def pair(x: Tensor, scale: Tensor, zero: Tensor) -> Tensor:
        return fake(x, scale, zero.float(), 0, LEVELS)

    @torch.library.custom_op("kdrun::integers", mutates_args=())
    def constant(levels: Tensor, scale: Tensor, zero: Tensor) -> Tensor:
        return levels.float() * scale.view(-1, *[1] * (levels.dim() - 1))

    pair.register_fake(lambda x, scale, zero: torch.empty_like(x))
    constant.register_fake(lambda levels, scale, zero: torch.empty(levels.shape))
    return torch.ops.kdrun.quantise_pair, torch.ops.kdrun.integers


def _translations() -> dict[Any, Any]:
    """The same in ONNX. Weights have zero points too: without them onnxruntime computes Gemm in float."""
    from onnxscript import opset18 as onnx

    def pair(x: Any, scale: Any, zero: Any) -> Any:
        return onnx.DequantizeLinear(onnx.QuantizeLinear(x, scale, zero), scale, zero)

    def constant(levels: Any, scale: Any, zero: Any) -> Any:
        return onnx.DequantizeLinear(levels, scale, zero, axis=0)

    return {torch.ops.kdrun.quantise_pair.default: pair, torch.ops.kdrun.integers.default: constant}


def in_integers(model: nn.Module, image_shape: tuple[int, int, int], write: Write) -> nn.Module:
    """A copy of a quantised model on the CPU that computes by `write`, with its integers and scales."""
    small = copy.deepcopy(model).eval().cpu().requires_grad_(False)
    own = quantisation(small)
    with torch.no_grad():
        _fill(own, small, image_shape, write)
    own.write = write
    return small


def _fill(own: Quantisation, model: nn.Module, image_shape: tuple[int, int, int], write: Write) -> None:
    """Gives `write` all scales and integers, as buffers of the model too, so that a tracer finds them."""
    for number in range(len(own.ranges)):
        scale, zero = own.range_of(number).scale()
        write.scales.append((_kept(own, f"scale{number}", scale), _kept(own, f"zero{number}", zero.byte())))
    for number, (read, weight, bias) in enumerate(layers_of(model, image_shape)):
        scale, bias_scale = own.scales(own.range_of(read), weight, bias)
        levels = torch.round(weight / per_channel(scale, weight)).clamp(-own.most, own.most)
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


def _kept(own: Quantisation, name: str, tensor: Tensor) -> Tensor:
    own.register_buffer(name, tensor, persistent=False)
    return tensor
