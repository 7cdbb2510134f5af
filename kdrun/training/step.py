"""One step: images, the teacher's outputs, each learner's update. Nothing is copied to the host."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from kdrun.graphs import Lanes, one_lane
from kdrun.losses.mix import Mix, Mixture
from kdrun.training.learning_rate import Rates
from kdrun.training.optimisers import Dot, Optimiser
from kdrun.training.plan import EpochPlan
from kdrun.training.savings import Saving
from kdrun.training.seeds import Draws
from kdrun.training.teachers import Teacher, uncounted
from kdrun.types import Batch, Outputs, Rows

Precision = Callable[[], torch.autocast]
"""Returns the context in which models run."""


class Images(Protocol):
    """Augmented, normalised training images, on the device. capturable: by a CUDA graph."""

    capturable: bool

    def prepare(self, parts: Iterable[Rows]) -> None:
        """Called before an epoch with the rows of each of its steps, from the next one on."""

    def __call__(self, rows: Rows) -> Tensor:
        """(B, C, H, W) float32 of any rows. Those of `prepare` may be ready in their order."""

    def close(self) -> None:
        """Frees memory and processes; called once, after training."""


class Learner:
    """A model in training: the mix that it minimises, its optimiser, and sums on the device.

    tapped: the model as images (N, C, H, W) -> Outputs, with the layers that the mix reads; it runs in
    `precision`. clip: the largest norm of all gradients together. draws: its own random numbers if others
    learn in the same steps; None for the global ones. stream: which rows of a step it learns from. rates: its
    own learning rates if they are not those of the loop; lr: 0-dim tensor, its own rate, which the loop sets.
    sums: (2 + terms,) float32 since `read_sums`: the total loss and each unweighted term, times rows; then
    the number of rows. broken: (2 + terms,) float32, the number of steps in which each was not finite.
    saving: kernels that its passes leave out, on a GPU. summed: makes of its gradients, its mixture and the
    number of its rows those of the whole batch.
    """

    saving: Saving | None = None
    summed: Summed

    def __init__(
        self,
        model: nn.Module,
        tapped: nn.Module,
        precision: Precision,
        mix: Mix,
        optimiser: Optimiser,
        clip: float | None,
        draws: Draws | None = None,
        stream: int = 0,
        rates: Rates | None = None,
    ) -> None:
        self.model, self.tapped, self.mix, self.optimiser, self.clip = model, tapped, mix, optimiser, clip
        self.precision, self.draws, self.stream = precision, draws, stream
        device = next(model.parameters()).device
        self.summed = whole
        self.rates, self.lr = rates, None if rates is None else torch.zeros((), device=device)
        self.sums, self.broken = torch.zeros(2, 2 + len(mix.names), device=device)

    def begin(self, epoch: int) -> None:
        """Sets schedules and modes for an epoch."""
        self.mix.advance(epoch)
        self.model.train()
        self.mix.train()

    def learn(self, batch: Batch, teacher: Outputs, lr: Tensor) -> None:
        """One update on a batch. teacher: the teacher's outputs for it."""
        with self.draws or nullcontext():
            self.update(self.student(batch.images), teacher, batch, lr)

    def student(self, images: Tensor) -> Outputs:
        """The model's outputs for images (N, C, H, W)."""
        with self.saving.forward() if self.saving else nullcontext(), self.precision():
            outputs: Outputs = self.tapped(images)
        return outputs

    def update(self, student: Outputs, teacher: Outputs, batch: Batch, lr: Tensor) -> None:
        """`learn` after the student's forward pass."""
        mixture = self.mix(student, teacher, batch)
        self.optimiser.clear()
        self.gradients(mixture)
        if self.saving:
            self.saving.give()
        mixture, rows = self.summed(self, mixture, len(batch.labels))
        if self.clip is not None:
            self.optimiser.clip(self.clip)
        self.optimiser.step(lr)
        tally(self.sums, self.broken, mixture.total.detach(), mixture.parts, rows)

    def gradients(self, mixture: Mixture) -> None:
        """Fills `.grad`, which is empty before; in two parts if the optimiser is DOT."""
        if isinstance(self.optimiser, Dot):
            own, taught = self.mix.halves(mixture)
            if own is not None and taught is not None:
                taught.backward(retain_graph=True)  # type: ignore[no-untyped-call]
                pulls = [parameter.grad for parameter in self.optimiser.parameters]
                self.optimiser.clear()
                own.backward()  # type: ignore[no-untyped-call]
                self.optimiser.take(pulls)
                return
        mixture.total.backward()  # type: ignore[no-untyped-call]

    def read_sums(self) -> tuple[float, dict[str, float]]:
        """Mean total loss and mean of each term since the last call. Waits for the device."""
        values: list[float] = self.sums.tolist()
        self.sums.zero_()
        means = [value / max(values[-1], 1.0) for value in values[:-1]]
        return means[0], dict(zip(self.mix.names, means[1:], strict=True))

    def not_finite(self) -> list[str]:
        """The first terms that were not finite; [""] if only the sum is not. Waits for the device."""
        total, *terms, _ = self.broken.tolist()
        most = max(terms)  # after a broken update no term is finite: the first one has been so for longer
        if not most:
            return [""] if total else []
        return [name for name, steps in zip(self.mix.names, terms, strict=True) if steps == most]

    def state(self) -> dict[str, Any]:
        """All that a checkpoint needs."""
        return {
            "model": self.model.state_dict(),
            "mix": self.mix.state_dict(),
            "optimiser": self.optimiser.state(),
            "sums": self.sums,
        }

    def load(self, state: dict[str, Any]) -> None:
        """Copies a state that `state` returned, in place."""
        self.model.load_state_dict(state["model"])
        self.mix.load_state_dict(state["mix"])
        self.optimiser.load(state["optimiser"])
        self.sums.copy_(state["sums"])


Summed = Callable[[Learner, Mixture, int], tuple[Mixture, int]]


def whole(learner: Learner, mixture: Mixture, rows: int) -> tuple[Mixture, int]:
    """The same: the learner has seen the whole batch."""
    return mixture, rows


def tally(sums: Tensor, broken: Tensor, total: Tensor, parts: Tensor, rows: int) -> None:
    """Adds a step to a learner's `sums` and `broken`, in place. total: (...,). parts: (..., terms)."""
    seen = torch.cat((total[..., None], parts, torch.ones_like(total)[..., None]), -1).float()
    sums.add_(seen, alpha=rows)
    broken.add_(seen - seen != 0)  # the difference is NaN if a value is not finite


class Stepping(Protocol):
    """A step as the loop sees it: `Step`, or one that does the same in another way. lr: 0-dim tensor, set by
    the loop. Rows and plans are given by stream: a learner reads those of its own.
    """

    learners: tuple[Learner, ...]
    teacher: Teacher
    lr: Tensor

    def prepare(self, plans: Sequence[EpochPlan], first: int) -> None:
        """Called before an epoch with its plans and the number of the next step."""

    def before(self, number: int) -> None:
        """Called before each step of the epoch with its number."""

    def __call__(self, rows: Sequence[Rows]) -> None:
        """One update of each learner."""

    def given(self, learner: Learner, rows: Rows) -> tuple[Batch, Outputs]:
        """A batch of any rows and the teacher's outputs for it. Not part of a step."""


def every(rows: Rows) -> Rows:
    """All rows of a batch."""
    return rows


class Step:
    """The plain step: makes each stream's batch, asks the teacher about it, and updates the learners. images,
    labels: of the training part; labels (N,) int64 on the device. lanes: CUDA streams, on which several
    learners work at the same time. part: which of a batch's rows this process computes.
    """

    def __init__(
        self,
        learners: tuple[Learner, ...],
        teacher: Teacher,
        images: Images,
        labels: Tensor,
        lanes: Lanes = one_lane,
        part: Callable[[Rows], Rows] = every,
    ) -> None:
        self.learners, self.teacher, self.images, self.labels = learners, teacher, images, labels
        self.part = part
        self.lr = torch.zeros((), device=labels.device)
        self.lanes = lanes if len(learners) > 1 else one_lane

    def prepare(self, plans: Sequence[EpochPlan], first: int) -> None:
        for plan in plans:
            self.images.prepare(map(self.part, plan.batches(first)))
        self.teacher.prepare(plans, first)
        for learner in self.learners:
            for term in learner.mix.terms:
                term.loss.prepare(plans[learner.stream].rows, self.labels)

    def before(self, number: int) -> None:
        self.teacher.before(number)

    def __call__(self, rows: Sequence[Rows]) -> None:
        batches = [self.batch(part) for part in rows]
        given = [(batch, self.teacher(batch)) for batch in batches]
        with self.lanes() as lane:
            for number, learner in enumerate(self.learners):
                with lane(number):
                    learner.learn(*given[learner.stream], self.lr if learner.lr is None else learner.lr)

    def given(self, learner: Learner, rows: Rows) -> tuple[Batch, Outputs]:
        batch = self.batch(rows)
        with uncounted(self.teacher):
            return batch, self.teacher(batch)

    def batch(self, rows: Rows) -> Batch:
        """The images and labels of rows."""
        return Batch(self.images(rows), self.labels[rows.index], rows)
