"""Golden values: reading a case, and comparing loss and gradients with it."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

TOLERANCE = 1e-9
"""Of the largest absolute entry of a tensor; a gradient that is zero is compared with 1e-12."""


@lru_cache
def _file(method: str) -> dict[str, Tensor]:
    return load_file(Path(__file__).parent / "golden" / f"{method}.safetensors")


def names(method: str, without: tuple[str, ...] = ()) -> list[str]:
    """The cases of a method, but for those given."""
    return sorted({key.partition("/")[0] for key in _file(method)} - set(without))


def case(method: str, name: str) -> dict[str, Tensor]:
    """The tensors of a case; those that have a golden gradient are leaves that require one."""
    tensors = {
        key.partition("/")[2]: value.double() if value.is_floating_point() else value.clone()
        for key, value in _file(method).items()
        if key.startswith(f"{name}/")
    }
    for key in [key for key in tensors if key.startswith("grad.")]:
        tensors[key.removeprefix("grad.")].requires_grad_()
    return tensors


def maps(tensors: dict[str, Tensor]) -> list[tuple[Tensor, Tensor]]:
    """The maps of student and teacher, `student.f0` and so on, from shallow to deep."""
    count = sum(key.startswith("student.f") for key in tensors)
    return [(tensors[f"student.f{i}"], tensors[f"teacher.f{i}"]) for i in range(count)]


def close(actual: Tensor, expected: Tensor, tolerance: float = TOLERANCE) -> None:
    """Assert that two tensors agree relative to the largest entry of the expected one.

    A loss that is a value for each image, (N,), is compared by its mean if one value is expected.
    """
    if expected.dim() == 0 and actual.dim() == 1:
        actual = actual.mean()
    assert actual.shape == expected.shape
    error = (actual.detach() - expected).abs().max().item()
    largest = expected.abs().max().item()
    assert error <= max(tolerance * largest, 1e-12), f"{error:.3g} of {largest:.3g}"


def matches(tensors: dict[str, Tensor], loss: Tensor, tolerance: float = TOLERANCE) -> None:
    """Assert that the loss (the mean, if it is a value for each image) and its gradients are those of the
    case.
    """
    loss = loss.mean()
    close(loss, tensors["loss"], tolerance)
    keys = [key.removeprefix("grad.") for key in tensors if key.startswith("grad.")]
    if not keys:
        return
    gradients = torch.autograd.grad(loss, [tensors[key] for key in keys], allow_unused=True)
    for key, gradient in zip(keys, gradients, strict=True):
        expected = tensors[f"grad.{key}"]
        close(torch.zeros_like(expected) if gradient is None else gradient, expected, tolerance)


def run(module: nn.Module, tensors: dict[str, Tensor], renamed: dict[str, str], *inputs: object) -> Tensor:
    """Call a module with parameters of a case. renamed: the module's names to the case's, by prefix."""
    weights = {}
    for name, own in module.named_parameters():
        prefix = next(p for p in renamed if name.startswith(p))
        weights[name] = tensors[renamed[prefix] + name.removeprefix(prefix)]
        assert weights[name].shape == own.shape
    out: Tensor = torch.func.functional_call(module.double(), weights, inputs)
    return out
