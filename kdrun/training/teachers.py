"""Who is asked what it says about a batch. The step calls a teacher and does not know which kind it is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from kdrun.training.plan import EpochPlan
from kdrun.types import Batch, Outputs

FEWEST_ROWS = 16
"""A smaller batch may take other paths in a convolution library and end in other last bits: it is filled."""


class Teacher(ABC):
    """Gives Outputs for a batch; no gradient flows into them.

    kind: how it is asked. forwards: images that a model was really asked about. saved: images that kept
    answers served instead. capturable: whether a call may be part of a CUDA graph: it reads tensors that stay
    where they are, and waits for nothing.
    """

    kind: str
    forwards: int = 0
    saved: int = 0
    capturable: bool = False

    def prepare(self, plans: Sequence[EpochPlan], first: int) -> None:  # noqa: B027
        """Called before an epoch with its different plans (one, as a rule) and the step to begin at."""

    def before(self, step: int) -> None:  # noqa: B027  (most teachers have nothing to do)
        """Called before each step of the epoch with its number; never as part of a graph."""

    @abstractmethod
    def __call__(self, batch: Batch) -> Outputs:
        """What the teacher says about each row of the batch."""

    def close(self) -> None:  # noqa: B027
        """Lets go of what the teacher holds; called once, after training."""

    def models(self) -> tuple[nn.Module, ...]:
        """The networks that answer, which must stay as they are."""
        return ()

    def record(self) -> dict[str, Any]:
        """How it was asked and how often, for the record of the training."""
        return {"plan": self.kind, "forwards": self.forwards, "forwards_saved": self.saved}


@contextmanager
def uncounted(teacher: Teacher) -> Iterator[None]:
    """What the teacher is asked within the block does not count."""
    forwards, saved = teacher.forwards, teacher.saved
    try:
        yield
    finally:
        teacher.forwards, teacher.saved = forwards, saved


class NoTeacher(Teacher):
    """For training a teacher or a control: the mix must not read it."""

    kind, capturable = "none", True

    def __call__(self, batch: Batch) -> Outputs:
        return Outputs(logits=batch.images.new_empty((len(batch.images), 0)))


class Live(Teacher):
    """A frozen model that sees every batch, in evaluation mode.

    model: images (N, C, H, W) -> Outputs.
    """

    kind, capturable = "live", True

    def __init__(self, model: nn.Module, precision: Callable[[], torch.autocast]) -> None:
        self.model = model.eval().requires_grad_(False)
        self.precision = precision

    def models(self) -> tuple[nn.Module, ...]:
        return (self.model,)

    @property
    def network(self) -> nn.Module:
        """The model itself, without the taps around it."""
        inner = getattr(self.model, "model", None)
        return inner if isinstance(inner, nn.Module) else self.model

    @torch.no_grad()  # not inference_mode: losses may save these tensors for the student's backward pass
    def __call__(self, batch: Batch) -> Outputs:
        count, images = len(batch.images), batch.images
        self.forwards += count
        if count < FEWEST_ROWS:
            images = torch.cat([images] * -(-FEWEST_ROWS // count))
        with self.precision():
            said: Outputs = self.model(images)
        return said if len(images) == count else each(said, lambda tensor: tensor[:count])


def at_once(device: torch.device, pixels: int) -> int:
    """Images of one forward when a teacher is asked in bulk: on a CPU more leave the cache, on a GPU fewer
    leave it idle. pixels: values of one image.
    """
    return 128 if device.type == "cpu" else max(128, min(1024, 2**22 // pixels))


def each(said: Outputs, act: Callable[[Tensor], Tensor]) -> Outputs:
    """The same with every tensor that has a row for each image replaced."""
    return Outputs(
        act(said.logits),
        None if said.embedding is None else act(said.embedding),
        tuple(None if stage is None else act(stage) for stage in said.stages),
        {name: act(tensor) for name, tensor in said.layers.items()},
        said.classifier,
    )


def tensors(said: Outputs) -> Iterator[Tensor]:
    """Those that have a row for each image, in a fixed order."""
    every = (said.logits, said.embedding, *said.stages, *said.layers.values())
    yield from (tensor for tensor in every if tensor is not None)
