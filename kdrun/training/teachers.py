"""Teachers give the outputs that a student learns from. A step does not know which kind it calls."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from kdrun.models.seen import Seen
from kdrun.models.taps import Tapped
from kdrun.training.plan import EpochPlan
from kdrun.types import Batch, Outputs

FEWEST_ROWS = 16
"""A smaller batch is filled up to this size: a convolution library may compute it with other last bits."""


class Teacher(ABC):
    """Gives Outputs for a batch; no gradient flows into them. kind: live, tabled, ahead, peer, none.
    forwards: images that a model saw. saved: images whose answers were looked up instead. capturable: whether
    a CUDA graph can hold a call: it reads tensors that stay in place, and does not wait for the device.
    """

    kind: str
    forwards: int = 0
    saved: int = 0
    capturable: bool = False

    def prepare(self, plans: Sequence[EpochPlan], first: int) -> None:  # noqa: B027
        """Called before an epoch with the plan of each stream and the number of the next step."""

    def before(self, step: int) -> None:  # noqa: B027
        """Called before each step of the epoch with its number; not part of a CUDA graph."""

    @abstractmethod
    def __call__(self, batch: Batch) -> Outputs:
        """The teacher's outputs for each row of the batch."""

    def close(self) -> None:  # noqa: B027
        """Frees memory; called once, after training."""

    def models(self) -> tuple[nn.Module, ...]:
        """The networks that answer. They must not change."""
        return ()

    def record(self) -> dict[str, Any]:
        """The kind and the counts, for the record of the training."""
        return {"plan": self.kind, "forwards": self.forwards, "forwards_saved": self.saved}


@contextmanager
def uncounted(teacher: Teacher) -> Iterator[None]:
    """After the block the teacher's counts are what they were."""
    forwards, saved = teacher.forwards, teacher.saved
    try:
        yield
    finally:
        teacher.forwards, teacher.saved = forwards, saved


class NoTeacher(Teacher):
    """The teacher of a training without one. The mix must not read it."""

    kind, capturable = "none", True

    def __call__(self, batch: Batch) -> Outputs:
        return Outputs(logits=batch.images.new_empty((len(batch.images), 0)))


class Live(Teacher):
    """A frozen model that sees every batch, in evaluation mode. model: images (N, C, H, W) -> Outputs."""

    kind, capturable = "live", True

    def __init__(self, model: nn.Module, precision: Callable[[], torch.autocast]) -> None:
        self.model = model.eval().requires_grad_(False)
        self.precision = precision

    def models(self) -> tuple[nn.Module, ...]:
        return (self.model,)

    @property
    def network(self) -> nn.Module:
        """The model itself, without what is around it: taps, and what images pass before it."""
        model = self.model
        while isinstance(model, (Seen, Tapped)):
            model = model.model
        return model

    def __call__(self, batch: Batch) -> Outputs:
        images = batch.images
        if len(images) < FEWEST_ROWS:
            images = torch.cat([images] * -(-FEWEST_ROWS // len(images)))
        return self._answer(images, len(batch.images))

    def padded(self, batch: Batch, size: int) -> Outputs:
        """The answers to a batch of at most `size` images, repeated until there are so many: a GPU's
        libraries choose a kernel by the size, so the bits of an answer do not depend on the images beside it.
        """
        images = batch.images
        if len(images) < size:
            images = torch.cat([images] * -(-size // len(images)))[:size]
        return self._answer(images, len(batch.images))

    @torch.no_grad()  # not inference_mode: losses may save these tensors for the student's backward pass
    def _answer(self, images: Tensor, count: int) -> Outputs:
        self.forwards += count
        with self.precision():
            outputs: Outputs = self.model(images)
        return outputs if len(images) == count else each(outputs, lambda tensor: tensor[:count])


def at_once(device: torch.device, pixels: int) -> int:
    """The best number of images in one forward: more do not fit into a CPU's cache, fewer leave a GPU idle.
    pixels: the values of one image.
    """
    return 128 if device.type == "cpu" else max(128, min(1024, 2**22 // pixels))


def each(outputs: Outputs, act: Callable[[Tensor], Tensor]) -> Outputs:
    """The same outputs with `act` applied to every tensor that has a row for each image."""
    return Outputs(
        act(outputs.logits),
        None if outputs.embedding is None else act(outputs.embedding),
        tuple(None if stage is None else act(stage) for stage in outputs.stages),
        {name: act(tensor) for name, tensor in outputs.layers.items()},
        outputs.classifier,
    )
