"""One step: images, teacher, then forward, backward and update of each learner. Nothing is copied to the
host.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from kdrun.graphs import Lanes, one_lane
from kdrun.losses.mix import Mix
from kdrun.training.optimisers import Optimiser
from kdrun.training.plan import EpochPlan
from kdrun.training.seeds import Draws
from kdrun.training.teachers import Teacher
from kdrun.types import Batch, Outputs, Rows


class Images(Protocol):
    """Augmented, normalised images of the training part, on the device.

    capturable: whether a call may be part of a CUDA graph.
    """

    capturable: bool

    def prepare(self, rows: Rows, batch: int, first: int) -> None:
        """Called before an epoch with all its rows in order, the rows of a step, and the step to begin at."""

    def __call__(self, rows: Rows) -> Tensor:
        """(B, C, H, W) float32 of the next rows."""

    def close(self) -> None:
        """Lets go of what it holds; called once, after training."""


class Learner:
    """What is trained: a model, the mix it minimises, its optimiser, and sums on the device.

    ask: the same model as images (N, C, H, W) -> Outputs, with the layers that the mix reads.
    draws: random numbers of its own, where others learn beside it; else the global ones.
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
        draws: Draws | None = None,
    ) -> None:
        self.model, self.ask, self.mix, self.optimiser, self.clip = model, ask, mix, optimiser, clip
        self.draws = draws
        device = next(model.parameters()).device
        self.sums = torch.zeros(2 + len(mix.names), device=device)

    def begin(self, epoch: int) -> None:
        """Sets schedules and modes for an epoch."""
        self.mix.advance(epoch)
        self.model.train()
        self.mix.train()

    def learn(self, batch: Batch, told: Outputs, lr: Tensor, precision: Callable[[], torch.autocast]) -> None:
        """One update on a batch, given what the teacher told about it."""
        with self.draws or nullcontext():
            with precision():
                said = self.ask(batch.images)
            self.update(said, told, batch, lr, precision)

    def update(
        self,
        said: Outputs,
        told: Outputs,
        batch: Batch,
        lr: Tensor,
        precision: Callable[[], torch.autocast],
    ) -> None:
        """The half of `learn` that follows the forward pass, whose result is `said`."""
        with precision():
            mixture = self.mix(said, told, batch)
        self.optimiser.clear()
        self.optimiser.backward(self.mix, mixture)
        if self.clip is not None:
            self.optimiser.clip(self.clip)
        self.optimiser.step(lr)
        self.count(mixture.total.detach(), mixture.parts, len(batch.labels))

    def count(self, total: Tensor, parts: Tensor, rows: int) -> None:
        """Adds a step's total () and parts (terms,) to the sums."""
        seen = torch.cat((total.float().view(1), parts.float(), self.sums.new_ones(1)))
        self.sums += seen * rows

    def read_sums(self) -> tuple[float, dict[str, float]]:
        """Mean total loss and mean of each term since the last call; the only place where training waits for
        the device.
        """
        values: list[float] = self.sums.tolist()
        self.sums.zero_()
        means = [value / max(values[-1], 1.0) for value in values[:-1]]
        return means[0], dict(zip(self.mix.names, means[1:], strict=True))

    def state(self) -> dict[str, Any]:
        """What a checkpoint must hold of it."""
        return {
            "model": self.model.state_dict(),
            "mix": self.mix.state_dict(),
            "optimiser": self.optimiser.state(),
            "sums": self.sums,
        }

    def load(self, state: dict[str, Any]) -> None:
        """Takes over a state that `state` gave, in place."""
        self.model.load_state_dict(state["model"])
        self.mix.load_state_dict(state["mix"])
        self.optimiser.load(state["optimiser"])
        self.sums.copy_(state["sums"])


class Stepping(Protocol):
    """A step as the loop knows it: `Step`, or one that does the same in another way.

    learners: all that it trains. lr: 0-dim tensor, set by the loop.
    """

    learners: tuple[Learner, ...]
    teacher: Teacher
    lr: Tensor

    def prepare(self, plans: Sequence[EpochPlan], first: int) -> None:
        """Called before an epoch with each learner's plan, and the first step to come."""

    def __call__(self, rows: Sequence[Rows]) -> None:
        """One update of each learner on its rows."""


class Step:
    """Called with each learner's rows: makes the batch, asks the teacher, and lets the learner learn from it.

    Learners that are given the same Rows object share the batch and what the teacher says.
    images: of the training part. labels: (N,) int64 of all its rows, on the device. lr: 0-dim tensor, set by
    the loop. lanes: where the learners learn: one after the other, or beside one another.
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
        self.lanes: Lanes = one_lane

    def prepare(self, plans: Sequence[EpochPlan], first: int) -> None:
        """Called before an epoch with each learner's plan, and the first step to come."""
        different = list({id(plan): plan for plan in plans}.values())
        for plan in different:
            self.images.prepare(plan.rows, plan.batch, first)
        self.teacher.prepare(different, first)

    def __call__(self, rows: Sequence[Rows]) -> None:
        shared: dict[int, tuple[Batch, Outputs]] = {}
        with self.lanes() as lane:
            for number, (learner, own) in enumerate(zip(self.learners, rows, strict=True)):
                if id(own) not in shared:
                    batch = self.batch(own)
                    shared[id(own)] = batch, self.teacher(batch)
                batch, told = shared[id(own)]
                with lane(number):
                    learner.learn(batch, told, self.lr, self.precision)

    def batch(self, rows: Rows) -> Batch:
        """What the rows stand for."""
        return Batch(self.images(rows), self.labels[rows.index], rows)
