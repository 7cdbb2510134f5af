"""Models that torch compiles in place (`runtime.compile`); they are used as before."""

from __future__ import annotations

from typing import Any

from torch import nn

from kdrun.training.step import Stepping


def compile_models(step: Stepping, **how: Any) -> None:
    """Compiles the models that learn, and the teacher if it sees the same batches.

    Each is compiled when it is first called with a batch of a new size; a teacher that is asked in bulk, with
    other sizes all the time, is left out. Imports torch's compiler.
    how: for `torch.compile`.
    """
    asked = step.teacher.models() if step.teacher.kind == "live" else ()
    for model in (*(learner.tapped for learner in step.learners), *asked):
        if isinstance(model, nn.Module):
            model.compile(dynamic=False, **how)
