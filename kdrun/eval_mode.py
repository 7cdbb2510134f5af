"""Evaluation mode within a block, on a model that may be in training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def evaluating(model: nn.Module) -> Iterator[nn.Module]:
    """Evaluation mode within the block. After it every module has its own `training` flag again.

    `model.train()` would also set modules that are frozen on purpose, such as a teacher's batch norm.
    """
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield model
    finally:
        for module in training:
            module.training = True
