"""Who is asked what it says about a batch. The step calls a teacher and does not know which kind it is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn

from kdrun.training.plan import EpochPlan
from kdrun.types import Batch, Outputs


class Teacher(ABC):
    """Gives Outputs for a batch; no gradient flows into them. forwards: images that a model was really asked
    about.
    """

    forwards: int = 0

    def prepare(self, plan: EpochPlan) -> None:  # noqa: B027  (most teachers have nothing to prepare)
        """Called with an epoch's plan before its first step."""

    @abstractmethod
    def __call__(self, batch: Batch) -> Outputs:
        """What the teacher says about each row of the batch."""


class NoTeacher(Teacher):
    """For training a teacher or a control: the mix must not read it."""

    def __call__(self, batch: Batch) -> Outputs:
        return Outputs(logits=batch.images.new_empty((len(batch.images), 0)))


class Live(Teacher):
    """A frozen model that sees every batch, in evaluation mode.

    model: images (N, C, H, W) -> Outputs.
    """

    def __init__(self, model: nn.Module, precision: Callable[[], torch.autocast]) -> None:
        self.model = model.eval().requires_grad_(False)
        self.precision = precision

    @torch.no_grad()  # not inference_mode: losses may save these tensors for the student's backward pass
    def __call__(self, batch: Batch) -> Outputs:
        self.forwards += len(batch.images)
        with self.precision():
            said: Outputs = self.model(batch.images)
        return said


def frozen_state(model: nn.Module) -> Tensor:
    """A checksum of all parameters and buffers, (2,) float64: equal before and after a training that changed
    nothing.
    """
    sums = torch.zeros(2, dtype=torch.float64)
    for number, tensor in enumerate([*model.parameters(), *model.buffers()], 1):
        value = tensor.detach().to("cpu", torch.float64)
        sums += torch.stack((value.sum(), (value * value).sum() * number))
    return sums
