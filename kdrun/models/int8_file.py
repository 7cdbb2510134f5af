"""Writes a model with fake quantisation as an int8 ONNX file, with exactly its integers and scales."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kdrun.models.formats import Student, write_onnx
from kdrun.models.quantised import LEVELS, Write, fake, writing

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
    pair, constant = _operations()
    with writing(model, tuple(about["image_shape"]), Write(pair, constant)) as plain:
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

    return {
        torch.ops.kdrun.quantise_pair.default: pair,
        torch.ops.kdrun.integers.default: constant,
    }
