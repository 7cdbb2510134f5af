"""`runtime.compile`: models and losses are compiled in place and used as before."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from kdrun.training.step import Stepping
from kdrun.users_code import is_users


def compile_models(step: Stepping, batch: int, **how: Any) -> None:
    """Compiles the models that learn, and the teacher if it sees the same batches, in the first step, for
    batches of this many images. Others go through the model as it is: to compile takes a minute, for one step
    an epoch. A teacher that answers in bulk is not compiled, since its batch sizes change often. Imports
    torch's compiler. how: arguments of `torch.compile`.
    """
    teachers = step.teacher.models() if step.teacher.kind == "live" else ()
    for model in (*(learner.tapped for learner in step.learners), *teachers):
        _compile(model, batch, how, len)


def compile_losses(step: Stepping, batch: int, **how: Any) -> None:
    """Compiles the mixes of full batches: few operations, but many kernels. Losses that draw random numbers
    or wait for the device stay as they are, as do the user's.
    """
    for learner in step.learners:
        losses = [term.loss for term in learner.mix.terms]
        if not any(loss.draws or not loss.capturable or is_users(loss) for loss in losses):
            _compile(learner.mix, batch, how, lambda student, teacher, given: len(given.labels))


def _compile(module: nn.Module, batch: int, how: dict[str, Any], rows: Callable[..., int]) -> None:
    """As `nn.Module.compile`, which does it for all sizes. rows: how many its arguments have."""
    plain: Callable[..., Any] = module._call_impl
    compiled: Callable[..., Any] = torch.compile(plain, dynamic=False, **how)

    def call(*given: Any) -> Any:
        return compiled(*given) if rows(*given) == batch else plain(*given)

    module._compiled_call_impl = call
