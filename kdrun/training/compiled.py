"""`runtime.compile`: models are compiled in place and used as before."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from kdrun.training.step import Stepping


def compile_models(step: Stepping, batch: int, **how: Any) -> None:
    """Compiles the models that learn, and the teacher if it sees the same batches.

    Each is compiled in the first step, for batches of this many images. A batch of another size, such as an
    epoch's last, goes through the model as it is: to compile it takes a minute, for one step an epoch. A
    teacher that answers in bulk is not compiled, since its batch sizes change often. Imports torch's
    compiler. how: arguments of `torch.compile`.
    """
    teachers = step.teacher.models() if step.teacher.kind == "live" else ()
    for model in (*(learner.tapped for learner in step.learners), *teachers):
        if isinstance(model, nn.Module):
            _compile(model, batch, how)


def _compile(model: nn.Module, batch: int, how: dict[str, Any]) -> None:
    """As `nn.Module.compile`, which does it for all sizes."""
    plain: Callable[[torch.Tensor], Any] = model._call_impl
    compiled: Callable[[torch.Tensor], Any] = torch.compile(plain, dynamic=False, **how)

    def call(images: torch.Tensor) -> Any:
        return compiled(images) if len(images) == batch else plain(images)

    model._compiled_call_impl = call
