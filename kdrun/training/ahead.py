"""A live teacher that answers many coming batches in one call, if no table can hold its answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from kdrun.training.plan import EpochPlan
from kdrun.training.tabled import WINDOW
from kdrun.training.teachers import Live, Teacher, each
from kdrun.types import Batch, Outputs, Rows

NONE = torch.iinfo(torch.int64).max


class Ahead(Teacher):
    """A live teacher that answers many batches at once; a step looks its answers up. The key is a hash of
    image and view, of 64 bits, so that thousands of rows do not collide. Answers stay in place, so a CUDA
    graph can read them. A row without one gets NaN, which stops the training. images: of the training part.
    chunk: images of one forward. rows: the answers that memory holds.
    """

    kind, capturable = "ahead", True

    def __init__(self, live: Live, images: Callable[[Rows], Tensor], chunk: int, rows: int) -> None:
        self.live, self.images, self.chunk, self.rows = live, images, chunk, rows
        self.plans: Sequence[EpochPlan] = ()
        self.until = self.forward = self.window = 0
        self.factors = self.hashes = torch.empty(0, dtype=torch.int64)
        self.held: Outputs | None = None

    def prepare(self, plans: Sequence[EpochPlan], first: int) -> None:
        self.plans = plans
        batch, together = plans[0].batch, sum(plan.batch for plan in plans)
        self.forward = max(1, min(self.chunk, self.rows // len(plans)) // batch)
        epoch = sum(plan.steps * plan.batch for plan in plans)
        wanted = max(together, min(self.rows, WINDOW * self.forward * together, epoch))
        if wanted >= len(self.hashes):
            device = plans[0].rows.index.device
            self.hashes = torch.full((wanted + 1,), NONE, dtype=torch.int64, device=device)
            self.factors, self.held = _factors(plans[0].rows.view).to(device), None
        window = (len(self.hashes) - 1) // together
        self.forward = min(self.forward, window)
        self.window = window - window % self.forward
        self.until = first - first % self.forward  # the same rows in a forward as without the interruption
        self.before(self.until)

    def before(self, step: int) -> None:
        if step < self.until:
            return
        self.until = step + self.window
        rows = [plan.between(step, self.until) for plan in self.plans]
        places = self._places(torch.cat([self._hash(part) for part in rows]))
        size = self.forward * self.plans[0].batch
        for stream in rows:
            for first in range(0, len(stream.index), size):
                part = stream.part(slice(first, first + size))
                self._ask(part, places[: len(part.index)], size)
                places = places[len(part.index) :]

    def __call__(self, batch: Batch) -> Outputs:
        assert batch.rows is not None and self.held is not None
        wanted = self._hash(batch.rows)
        place = torch.searchsorted(self.hashes, wanted)
        missing = self.hashes.index_select(0, place) != wanted
        place = place.masked_fill(missing, len(self.hashes) - 1)
        return each(self.held, lambda tensor: tensor[place])

    def models(self) -> tuple[nn.Module, ...]:
        return self.live.models()

    def _places(self, hashes: Tensor) -> Tensor:
        """The place of the answer to each row: answers lie in the order of the hashes."""
        ordered, order = hashes.sort()
        self.hashes[: len(hashes)] = ordered
        self.hashes[len(hashes) :] = NONE
        places = torch.empty_like(order)
        places[order] = torch.arange(len(order), device=order.device)
        return places

    def _ask(self, rows: Rows, places: Tensor, size: int) -> None:
        outputs = self.live.padded(Batch(self.images(rows), rows.index, rows), size)
        self.forwards += len(rows.index)
        if self.held is None:
            self.held = each(outputs, lambda tensor: _space(tensor, len(self.hashes)))
        held = self.held.named()
        for name, tensor in outputs.named().items():
            held[name][places] = tensor

    def _hash(self, rows: Rows) -> Tensor:
        """(n,) int64."""
        words = rows.view[:, None] if rows.view.dim() == 1 else rows.view.view(torch.int32)
        return rows.index * self.factors[0] + (words * self.factors[1:]).sum(1)


def _factors(views: Tensor) -> Tensor:
    """Odd numbers of 64 bits: one for the image, one for each word of the view."""
    words = 1 if views.dim() == 1 else views.shape[1]
    draw = torch.Generator().manual_seed(0)
    return torch.randint(-(2**63), 2**63 - 1, (1 + words,), generator=draw) | 1


def _space(like: Tensor, rows: int) -> Tensor:
    """An empty tensor of `rows` such rows, with the same layout in memory; the last row is NaN."""
    shape, dense = (rows, *like.shape[1:]), like.stride(0) == like[0].numel()
    space = like.new_empty_strided(shape, like.stride()) if dense else like.new_empty(shape)
    space[-1].fill_(torch.nan)
    return space
