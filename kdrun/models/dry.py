"""A forward that changes nothing: what a model makes of black images of some size, found without computing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

IMAGES = 2
"""How many images a dry forward is given; two, so that a lost batch dimension shows."""


def dry_forward(model: nn.Module, image_shape: tuple[int, int, int]) -> Any:
    """The model's output for two black images (C, H, W), in evaluation mode, for its shapes alone.

    Runs on torch's meta device, where tensors have no values; a model that does not go there (it looks at
    values) runs for real on its own device. Weights, statistics, modes and random states stay as they are.
    Raises what the forward raises.
    """
    with _evaluating(model), _same_random_state(model), torch.no_grad():
        try:
            return _on_meta(model, image_shape)
        except Exception:
            # Whatever went wrong, the real forward decides: it raises the same, or the meta device was to blame.
            return model(_images(model, image_shape, _device(model)))


def _on_meta(model: nn.Module, image_shape: tuple[int, int, int]) -> Any:
    tensors = {
        name: torch.empty_like(tensor, device="meta")
        for named in (model.named_parameters(), model.named_buffers())
        for name, tensor in named
    }
    images = _images(model, image_shape, torch.device("meta"))
    return torch.func.functional_call(model, tensors, (images,))


def _images(model: nn.Module, image_shape: tuple[int, int, int], device: torch.device) -> Tensor:
    kinds = (tensor.dtype for tensor in model.parameters() if tensor.is_floating_point())
    return torch.zeros(IMAGES, *image_shape, dtype=next(kinds, torch.float32), device=device)


def _device(model: nn.Module) -> torch.device:
    return next((tensor.device for tensor in model.parameters()), torch.device("cpu"))


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


@contextmanager
def _same_random_state(model: nn.Module) -> Iterator[None]:
    device = _device(model)
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        yield
