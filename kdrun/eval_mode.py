"""Evaluation mode for the length of a with-block, on a model that may be in the middle of its training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def evaluating(model: nn.Module) -> Iterator[nn.Module]:
    """The model in evaluation mode; afterwards every module's own `training` flag is as it was.

    `model.train()` would not do: it would also wake modules that were frozen on purpose, such as a teacher's
    batch norm.
    """
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield model
    finally:
        for module in training:
            module.training = True
