"""`runtime.compile`: models are compiled in place and used as before."""

from __future__ import annotations

from typing import Any

from torch import nn

from kdrun.training.step import Stepping


def compile_models(step: Stepping, **how: Any) -> None:
    """Compiles the models that learn, and the teacher if it sees the same batches.

    Each is compiled on the first call with a new batch size. A teacher that answers in bulk is not compiled,
    since its batch sizes change often. Imports torch's compiler. how: arguments of `torch.compile`.
    """
    teachers = step.teacher.models() if step.teacher.kind == "live" else ()
    for model in (*(learner.tapped for learner in step.learners), *teachers):
        if isinstance(model, nn.Module):
            model.compile(dynamic=False, **how)
