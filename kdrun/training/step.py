"""One step: images, teacher, then forward, backward and update of each learner. Nothing is copied to the
host.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor, nn

from kdrun.losses.mix import Mix
from kdrun.training.optimisers import Optimiser
from kdrun.training.teachers import Teacher
from kdrun.types import Batch, Outputs, Rows


class Images(Protocol):
    """Augmented, normalised images of rows: (N, C, H, W) float."""

    def __call__(self, rows: Rows) -> Tensor: ...


class Learner:
    """What is trained: a model, the mix it minimises, its optimiser, and sums on the device.

    ask: the same model as images (N, C, H, W) -> Outputs, with the layers that the mix reads.
    sums: (1 + terms,) float32: the total loss and each unweighted term, times rows, since `read_sums`; then
    the rows.
    """

    def __init__(
        self,
        model: nn.Module,
        ask: Callable[[Tensor], Outputs],
        mix: Mix,
        optimiser: Optimiser,
        clip: float | None,
    ) -> None:
        self.model, self.ask, self.mix, self.optimiser, self.clip = model, ask, mix, optimiser, clip
        device = next(model.parameters()).device
        self.sums = torch.zeros(2 + len(mix.names), device=device)

    def learn(self, batch: Batch, told: Outputs, lr: Tensor, precision: Callable[[], torch.autocast]) -> None:
        """One update on a batch, given what the teacher told about it."""
        with precision():
            total, parts = self.mix(self.ask(batch.images), told, batch)
        self.optimiser.clear()
        total.backward()
        if self.clip is not None:
            nn.utils.clip_grad_norm_(self.optimiser.parameters, self.clip)
        self.optimiser.step(lr)
        seen = torch.cat((total.detach().float().view(1), parts.float(), self.sums.new_ones(1)))
        self.sums += seen * len(batch.labels)

    def read_sums(self) -> tuple[float, dict[str, float]]:
        """Mean total loss and mean of each term since the last call; the only place where training waits for
        the device.
        """
        values: list[float] = self.sums.tolist()
        self.sums.zero_()
        means = [value / max(values[-1], 1.0) for value in values[:-1]]
        return means[0], dict(zip(self.mix.names, means[1:], strict=True))


class Step:
    """Called with rows: makes the batch, asks the teacher once, and lets every learner learn from it.

    images: of the training part. labels: (N,) int64 of all its rows, on the device. lr: 0-dim tensor, set by
    the loop.
    """

    def __init__(
        self,
        learners: tuple[Learner, ...],
        teacher: Teacher,
        images: Images,
        labels: Tensor,
        precision: Callable[[], torch.autocast],
    ) -> None:
        self.learners, self.teacher, self.images, self.labels = learners, teacher, images, labels
        self.precision = precision
        self.lr = torch.zeros((), device=labels.device)

    def __call__(self, rows: Rows) -> None:
        batch = Batch(self.images(rows), self.labels[rows.index], rows)
        told = self.teacher(batch)
        for learner in self.learners:
            learner.learn(batch, told, self.lr, self.precision)
