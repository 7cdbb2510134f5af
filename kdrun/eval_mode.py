"""Forwards of a model that may be in training: in evaluation mode, and without a trace."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def evaluating(model: nn.Module) -> Iterator[nn.Module]:
    """Evaluation mode within the block. After it every module has its own `training` flag again, also one
    that is frozen on purpose, such as a teacher's batch norm.
    """
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield model
    finally:
        for module in training:
            module.training = True


@contextmanager
def untouched(model: nn.Module) -> Iterator[torch.device]:
    """As `evaluating`, and random numbers are afterwards as before. Gives the model's device."""
    device = device_of(model)
    with evaluating(model), torch.random.fork_rng([device] if device.type == "cuda" else []):
        yield device


def device_of(model: nn.Module) -> torch.device:
    """The device of the model's weights; the CPU if it has none."""
    tensors = (*model.parameters(), *model.buffers())
    return tensors[0].device if tensors else torch.device("cpu")
