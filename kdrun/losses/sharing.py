"""What a mix averages over: the rows of the batch that it sees, or those of the batches of all ranks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from typing import NamedTuple

import torch
from torch import Tensor

from kdrun.errors import KdrunError
from kdrun.losses.base import Loss
from kdrun.ranks import Ranks
from kdrun.types import Batch, Outputs, stage_of
from kdrun.users_code import is_users


class Valued(NamedTuple):
    """What a loss returned. value: (N,), a value for each image, or (), one for the batch. rows: (N,) bool,
    those that count; None: all. of_the_batch: as `Loss.of_the_batch`.
    """

    value: Tensor
    rows: Tensor | None = None
    of_the_batch: bool = False


class Given(NamedTuple):
    """The arguments of a loss."""

    student: Outputs
    teacher: Outputs
    batch: Batch


class Alone:
    """The batch is whole."""

    def given(self, loss: Loss, given: Given) -> Given:
        """What a loss is called with."""
        return given

    def call(self, loss: Loss, given: Given) -> Tensor:
        """What the loss returns."""
        value: Tensor = loss(given.student, given.teacher, given.batch)
        return value

    def means(self, every: Sequence[Valued]) -> list[Tensor]:
        """The value of each term, a scalar to differentiate."""
        return [_mean(value, rows) for value, rows, _ in every]


ALONE = Alone()


class Shared:
    """The batch is a part of that of all ranks, and a term's value this rank's share: the shares of all
    ranks, and their gradients, add up to those of the whole batch. A mean is taken with the count of all
    ranks. A loss of the batch (`Loss.of_the_batch`) reads the outputs of all ranks, draws the same random
    numbers on each, and counts for 1 / ranks on each. Outside of a step the batch is whole.
    """

    def __init__(self, ranks: Ranks) -> None:
        self.ranks = ranks

    def given(self, loss: Loss, given: Given) -> Given:
        if not self.ranks.sizes or not loss.of_the_batch:
            return given
        student, teacher, batch = given
        rows = None if batch.rows is None else type(batch.rows)(*map(self.ranks.joined, batch.rows))
        images = self.ranks.joined(batch.images) if is_users(loss) else batch.images
        return Given(
            self._joined(student, loss.needs.student),
            self._joined(teacher, loss.needs.teacher),
            Batch(images, self.ranks.joined(batch.labels), rows),
        )

    def call(self, loss: Loss, given: Given) -> Tensor:
        if not self.ranks.sizes:
            return ALONE.call(loss, given)
        with self.ranks.same_draws() if loss.of_the_batch and loss.draws else nullcontext():
            value = ALONE.call(loss, given)
        if isinstance(value, Tensor) and not value.dim() and not loss.of_the_batch:
            problem = "its forward returns one value for the batch, so over several processes it must be True"
            raise KdrunError("of_the_batch", False, problem)
        return value

    def means(self, every: Sequence[Valued]) -> list[Tensor]:
        if not self.ranks.sizes:
            return ALONE.means(every)
        counted = [
            self.ranks.counted(rows).sum() for _, rows, joined in every if rows is not None and not joined
        ]
        totals = iter(self.ranks.total(torch.stack(counted)) if counted else ())
        return [self._share(valued, totals) for valued in every]

    def _share(self, valued: Valued, totals: Iterator[Tensor]) -> Tensor:
        """A term's share. totals: the rows that count on all ranks, of each term that counts some only."""
        value, rows, joined = valued
        if joined:
            return _mean(value, rows) / self.ranks.count
        own = self.ranks.counted(value)
        if rows is None:
            return own.sum() / sum(self.ranks.sizes)
        return torch.dot(own, self.ranks.counted(rows).to(own.dtype)) / next(totals).clamp(min=1)

    def _joined(self, outputs: Outputs, needs: frozenset[str]) -> Outputs:
        """The layers that a loss reads, for the images of all ranks."""
        join, stages = self.ranks.joined, len(outputs.stages)
        read = {number % max(stages, 1) for name in needs if (number := stage_of(name)) is not None}
        every = "stages" in needs
        return outputs._replace(
            logits=join(outputs.logits),
            embedding=None
            if outputs.embedding is None or "embedding" not in needs
            else join(outputs.embedding),
            stages=tuple(
                join(stage) if stage is not None and (every or place in read) else None
                for place, stage in enumerate(outputs.stages)
            ),
            layers={name: join(tensor) for name, tensor in outputs.layers.items() if name in needs},
            counts=None if outputs.counts is None else join(outputs.counts),
            teachers={},
        )


Sharing = Alone | Shared
"""Chosen once for a mix."""


def _mean(value: Tensor, rows: Tensor | None) -> Tensor:
    """() of a value (), or the mean of (N,), all finite, over the rows that count; 0 if there are none."""
    if value.dim() == 0:
        return value
    if rows is None:
        return value.mean()
    counted = rows.to(value.dtype)
    return torch.dot(value, counted) / counted.sum().clamp(min=1)
