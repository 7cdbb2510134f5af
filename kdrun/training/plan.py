"""The plan of an epoch: which rows, in which order, in which views. It depends on seed, epoch and row set."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from kdrun.training.seeds import generator
from kdrun.types import Rows


class Drawing(Protocol):
    """Views that a plan draws from: `draw(generator, n)` returns n of them."""

    def draw(self, generator: torch.Generator, n: int) -> Tensor: ...


class RowSet(NamedTuple):
    """The rows of every epoch.

    rows: (R,) int64, the training images that the run may see. length: rows of an epoch, with repeats. batch:
    rows of a step.
    """

    rows: Tensor
    length: int
    batch: int

    @property
    def steps(self) -> int:
        """Steps of an epoch. A last batch of one image is left out: batch normalisation needs two."""
        full, rest = divmod(self.length, self.batch)
        return full + (rest > 1 or not full)


class EpochPlan(NamedTuple):
    """The rows of one epoch in order, on the device, and the number of rows of a step."""

    rows: Rows
    batch: int
    steps: int

    def batches(self, first: int = 0) -> Iterator[Rows]:
        """The rows of each step, from step `first` on."""
        for step in range(first, self.steps):
            yield self.between(step, step + 1)

    def between(self, first: int, until: int) -> Rows:
        """The rows of the steps from `first` to before `until`, or to the end of the epoch."""
        return self.rows.part(slice(first * self.batch, min(until, self.steps) * self.batch))


def epoch_plan(seed: int, epoch: int, row_set: RowSet, views: Drawing, device: torch.device) -> EpochPlan:
    """Shuffled rows, each in a drawn view. An epoch longer than the row set repeats it in a new order."""
    order = generator(seed, "order", epoch)
    rounds = -(-row_set.length // len(row_set.rows))
    index = torch.cat(
        [row_set.rows[torch.randperm(len(row_set.rows), generator=order)] for _ in range(rounds)]
    )
    view = views.draw(generator(seed, "views", epoch), row_set.length)
    rows = Rows(index[: row_set.length].to(device), view.to(device))
    return EpochPlan(rows, row_set.batch, row_set.steps)
