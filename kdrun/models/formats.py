"""The file formats of an export, and how each is written."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import cached_property
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from kdrun.errors import KdrunError
from kdrun.models.exported import ABOUT, INPUT, OUTPUT, needs, quiet

OLDEST_FOR_ONNX = (2, 7)
"""The first torch whose ONNX exporter works with current versions of onnxscript."""

EXAMPLE_BATCH = 2
"""Images in the traced batch. With a single one, the exporter would make the batch size a constant."""


@dataclass(frozen=True)
class Student:
    """What is written. model: on the CPU in evaluation mode. about: the metadata of its file. calibration:
    returns normalised images (N, C, H, W) for the ranges of int8.
    """

    model: nn.Module
    about: Mapping[str, Any]
    calibration: Callable[[], Tensor]

    @cached_property
    def program(self) -> torch.export.ExportedProgram:
        """The model as a graph for any batch size, traced once for all formats; not strict, which in torch
        2.7 mixes up hooks. Raises KdrunError for a model that cannot be traced.
        """
        images = torch.zeros(EXAMPLE_BATCH, *self.about["image_shape"])
        batch = torch.export.Dim("batch", min=1)
        with refused(self, "torch.export"):
            program = torch.export.export(
                _ImagesToLogits(self.model), (images,), dynamic_shapes=({0: batch},), strict=False
            )
        for node in program.graph.nodes:
            node.meta.pop("stack_trace", None)  # has paths of this machine
        return program


class Format(NamedTuple):
    """file: its name. write: writes a student to a path. exact: whether logits must equal the student's up to
    rounding. extra: packages that it needs beside torch.
    """

    file: str
    write: Callable[[Student, Path], None]
    exact: bool
    extra: tuple[str, ...] = ()


class _ImagesToLogits(nn.Module):
    """The model inside another module: the exporter ignores hooks of the outermost one."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.model(images)
        return logits


@contextmanager
def refused(student: Student, by: str) -> Iterator[None]:
    """Turns errors in the block into a KdrunError, and hides what the library prints."""
    try:
        with quiet(), warnings.catch_warnings(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            warnings.simplefilter("ignore")
            yield
    except KdrunError:
        raise
    except Exception as error:  # tracing runs the model's own code, and exporters raise many kinds of errors
        problem = f"{by} of torch {torch.__version__} cannot export this model: {_first_cause(error)}"
        raise KdrunError(str(student.about["model"]["name"]), None, problem) from error


def _first_cause(error: BaseException) -> str:
    """Type and first line of the original error."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def write_pt2(student: Student, path: Path) -> None:
    """A torch.export program; ABOUT is an extra file in it."""
    program = student.program
    with refused(student, "torch.export"):
        torch.export.save(program, path, extra_files={ABOUT: json.dumps(student.about)})


def write_onnx(student: Student, path: Path, translations: Mapping[Any, Any] | None = None) -> None:
    """An ONNX model in one file; ABOUT is in its metadata. translations: of operations not torch's own."""
    import onnx

    program = student.program
    with refused(student, "the ONNX exporter"):
        made = torch.onnx.export(
            program,
            dynamo=True,
            input_names=[INPUT],
            output_names=[OUTPUT],
            custom_translation_table=dict(translations or {}),
            verbose=False,
        )
        assert made is not None
        model = made.model_proto
        graph = model.graph
        noted = (*graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer, graph)
        for each in noted:  # names of Python modules that the exporter adds: half of a small file
            del each.metadata_props[:]
        _describe(model, student.about)
        onnx.checker.check_model(model, full_check=True)
        onnx.save(model, str(path))


def _describe(model: Any, about: Mapping[str, Any]) -> None:
    del model.metadata_props[:]
    model.metadata_props.add(key=ABOUT, value=json.dumps(about))


def write_int8(student: Student, path: Path) -> None:
    """An ONNX model with 8-bit activations and weights (per channel) in QDQ form, by onnxruntime. Ranges are
    minimum and maximum over the calibration images. Weights use 7 of the 8 bits (`reduce_range`): processors
    without VNNI add two products in 16 bits, which 8-bit weights overflow.
    """
    import onnx
    from onnxruntime.quantization import QuantFormat, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    plain, folded = path.with_name("plain.onnx"), path.with_name("folded.onnx")
    write_onnx(student, plain)
    with refused(student, "the quantiser of onnxruntime"):
        quant_pre_process(str(plain), str(folded), skip_symbolic_shape=True)
        quantize_static(
            str(folded),
            str(path),
            _Calibration(student.calibration()),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            reduce_range=True,
        )
        model = onnx.load(str(path))
        _describe(model, student.about)
        onnx.save(model, str(path))
    plain.unlink()
    folded.unlink()


class _Calibration:
    """Images in batches, with the interface that the quantiser needs."""

    SIZE = 32

    def __init__(self, images: Tensor) -> None:
        self.batches = iter([images[i : i + self.SIZE] for i in range(0, len(images), self.SIZE)])

    def get_next(self) -> dict[str, Any] | None:
        images = next(self.batches, None)
        return None if images is None else {INPUT: images.contiguous().numpy()}


ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")

FORMATS: Mapping[str, Format] = {
    "pt2": Format("student.pt2", write_pt2, exact=True),
    "onnx": Format("student.onnx", write_onnx, exact=True, extra=ONNX_PACKAGES),
    "int8": Format("student.int8.onnx", write_int8, exact=False, extra=ONNX_PACKAGES),
}


def format_named(name: str, key: str = "--to") -> Format:
    """The format of that name. Raises KdrunError under `key` for an unknown one, or what it needs."""
    if name not in FORMATS:
        raise KdrunError(key, name, "no such format", FORMATS)
    version = tuple(map(int, torch.__version__.split(".")[:2]))
    if FORMATS[name].extra and version < OLDEST_FOR_ONNX:
        wanted = ".".join(map(str, OLDEST_FOR_ONNX))
        raise KdrunError(key, name, f"needs torch {wanted} or later; this is {torch.__version__}")
    needs(*FORMATS[name].extra)
    return FORMATS[name]
