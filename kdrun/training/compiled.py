"""Models that torch compiles (`runtime.compile`): in place, so that nobody who uses them needs to know."""

from __future__ import annotations

from typing import Any

from torch import nn

from kdrun.training.step import Stepping


def compile_models(step: Stepping, **how: Any) -> None:
    """Has the models that learn compiled, and those that are asked about the same batches. Each is compiled
    when it is first called with a batch of some size, so a teacher that is asked in bulk, about ever other
    numbers of images, is left out. Imports torch's compiler.

    how: for `torch.compile`.
    """
    asked = step.teacher.models() if step.teacher.kind == "live" else ()
    for model in (*(learner.tapped for learner in step.learners), *asked):
        if isinstance(model, nn.Module):
            model.compile(dynamic=False, **how)
