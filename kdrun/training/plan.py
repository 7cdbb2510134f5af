"""The plan of an epoch: which rows, in which order, in which views. It depends on seed, epoch and row set."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from kdrun.training.seeds import generator
from kdrun.types import Rows


class DrawnViews(Protocol):
    """Views that a plan draws from: `draw(generator, n)` returns n of them."""

    def draw(self, generator: torch.Generator, n: int) -> Tensor: ...


class Shares(NamedTuple):
    """Batches of which a share (above 0, up to 1) is drawn from the labelled images, and the rest from the
    others. labelled, unlabelled: (L,), (U,) int64, their rows.
    """

    labelled: Tensor
    unlabelled: Tensor
    share: float

    def count(self, batch: int) -> int:
        """The labelled rows of a batch: the nearest number, but one at least, and one other below 1."""
        most = batch - 1 if self.share < 1 and batch > 1 else batch
        return min(max(1, round(self.share * batch)), most)


class RowSet(NamedTuple):
    """The rows of every epoch. rows: (R,) int64, the training images that the run may see. length: rows of an
    epoch, with repeats. batch: rows of a step. shares: how batches are filled; None: rows as they come.
    """

    rows: Tensor
    length: int
    batch: int
    shares: Shares | None = None

    @property
    def steps(self) -> int:
        """Steps of an epoch. A last batch of one image is left out: batch normalisation needs two."""
        full, rest = divmod(self.length, self.batch)
        return full + (rest > 1 or not full)


class EpochPlan(NamedTuple):
    """The rows of one epoch in order, on the device, and the number of rows of a step. epoch: from 0."""

    rows: Rows
    batch: int
    steps: int
    epoch: int = 0

    def batches(self, first: int = 0) -> Iterator[Rows]:
        """The rows of each step, from step `first` on."""
        for step in range(first, self.steps):
            yield self.between(step, step + 1)

    def between(self, first: int, until: int) -> Rows:
        """The rows of the steps from `first` to before `until`, or to the end of the epoch."""
        return self.rows.part(slice(first * self.batch, min(until, self.steps) * self.batch))


def epoch_plan(seed: int, epoch: int, row_set: RowSet, views: DrawnViews, device: torch.device) -> EpochPlan:
    """Shuffled rows, each in a drawn view. An epoch longer than the row set repeats it in a new order. With
    shares the labelled rows come first in each batch: those of an epoch of labelled images alone at the same
    places, in the same views, so a student sees a part of what its control sees.
    """
    order, shares = generator(seed, "order", epoch), row_set.shares
    index = _shuffled(row_set.rows if shares is None else shares.labelled, row_set.length, order)
    if shares is not None:
        others = _others(row_set, shares)
        index[others] = _shuffled(shares.unlabelled, len(others), generator(seed, "unlabelled", epoch))
    view = views.draw(generator(seed, "views", epoch), row_set.length)
    return EpochPlan(Rows(index.to(device), view.to(device)), row_set.batch, row_set.steps, epoch)


def _shuffled(rows: Tensor, length: int, order: torch.Generator) -> Tensor:
    """(length,) of the rows, all of them in a new order before one comes again."""
    rounds = -(-length // len(rows)) if length else 0
    drawn = [rows[torch.randperm(len(rows), generator=order)] for _ in range(rounds)]
    return torch.cat(drawn or [rows])[:length]


def _others(row_set: RowSet, shares: Shares) -> Tensor:
    """The places of an epoch, int64, that are not for labelled rows: the last ones of each batch."""
    starts = range(0, row_set.length, row_set.batch)
    batches = [(first, min(row_set.batch, row_set.length - first)) for first in starts]
    places = [torch.arange(first + shares.count(size), first + size) for first, size in batches]
    return torch.cat(places)
