"""Exported students: a torch.export (.pt2) or ONNX (.onnx) file that says its classes and preprocessing.

A .onnx file is data. A .pt2 file is read by `torch.export.load`, which can execute what is in it.
"""

from __future__ import annotations

import importlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from kdrun.errors import KdrunError
from kdrun.extras import install
from kdrun.models.described import About, checked

ABOUT = "kdrun.json"
"""The extra file of a .pt2 that describes the student; the key of the metadata of an .onnx."""

INPUT, OUTPUT = "images", "logits"

SUFFIXES = (".pt2", ".onnx")


class Exported(nn.Module):
    """An exported model as any other: images (N, C, H, W) on the CPU to logits (N, K). No weights."""

    channels_first = True

    def __init__(self, answer: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.answer = answer

    def forward(self, images: Tensor) -> Tensor:
        return self.answer(images.contiguous())

    def __deepcopy__(self, memo: dict[int, Any]) -> Exported:
        return self


class Opened(NamedTuple):
    """An exported model and what its file says of it."""

    model: Exported
    about: About


def is_exported(path: Path) -> bool:
    """Whether a path is named as an exported file."""
    return path.suffix in SUFFIXES and not path.is_dir()


def opened(path: Path, threads: int | None = None) -> Opened:
    """The model in a .pt2 or .onnx file. threads: of onnxruntime; None: its own choice. Raises KdrunError for
    a missing, damaged or foreign file, and if onnxruntime is not installed.
    """
    if not path.is_file():
        raise KdrunError(str(path), None, "no such file")
    model, text = _pt2(path) if path.suffix == ".pt2" else _onnx(path, threads)
    if not text:
        problem = "was not exported by kdrun: it does not say its classes and preprocessing"
        raise KdrunError(str(path), None, problem)
    try:
        about = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise KdrunError(str(path), None, "its metadata is not JSON") from error
    return Opened(Exported(model), checked(about if isinstance(about, Mapping) else {}, path))


def needs(*packages: str) -> None:
    """Raises KdrunError if a package of the extra `onnx` cannot be imported."""
    for package in packages:
        try:
            importlib.import_module(package)
        except ImportError as error:
            problem = f"needs {package}, which cannot be imported: {install('onnx')}"
            raise KdrunError("onnx", None, problem) from error


@contextmanager
def quiet() -> Iterator[None]:
    """Without the log lines of the libraries below a critical one."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(before)


def _pt2(path: Path) -> tuple[Callable[[Tensor], Tensor], str]:
    extra = {ABOUT: ""}
    try:
        with quiet():
            module = torch.export.load(path, extra_files=extra).module()
    except Exception as error:  # the zip, the JSON and the graph in it raise errors of their own
        problem = f"cannot be read by torch {torch.__version__}: damaged, or of another version of torch"
        raise KdrunError(str(path), None, problem) from error

    def answer(images: Tensor) -> Tensor:
        logits: Tensor = module(images)
        return logits

    text: str | bytes = extra[ABOUT]
    return answer, text.decode(errors="replace") if isinstance(text, bytes) else text


def _onnx(path: Path, threads: int | None) -> tuple[Callable[[Tensor], Tensor], str]:
    needs("onnxruntime")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads or 0, 4
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        names = [each.name for each in session.get_inputs()], [each.name for each in session.get_outputs()]
    except Exception as error:  # onnxruntime has an exception for each of its codes
        raise KdrunError(str(path), None, "cannot be read: damaged, or no ONNX file") from error
    if names != ([INPUT], [OUTPUT]):
        problem = f"takes {', '.join(names[0])} and gives {', '.join(names[1])}: not exported by kdrun"
        raise KdrunError(str(path), None, problem)

    def answer(images: Tensor) -> Tensor:
        return torch.from_numpy(session.run([OUTPUT], {INPUT: images.numpy()})[0])

    return answer, session.get_modelmeta().custom_metadata_map.get(ABOUT, "")
