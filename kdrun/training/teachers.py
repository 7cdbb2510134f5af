"""Who is asked what it says about a batch. The step calls a teacher and does not know which kind it is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from kdrun.training.plan import EpochPlan
from kdrun.training.table import Answers, Table
from kdrun.types import Batch, Outputs, Rows

FEWEST_ROWS = 16
"""A smaller batch may take other paths in a convolution library and end in other last bits: it is filled."""

CHUNK = 128
"""Rows of one forward when a table is filled: on a CPU, larger ones leave the cache."""

CHECKED = 32
"""Rows of a found table that are compared with a live forward before it is used."""


class Teacher(ABC):
    """Gives Outputs for a batch; no gradient flows into them.

    forwards: images that a model was really asked about. saved: images that a table answered instead.
    """

    forwards: int = 0
    saved: int = 0

    def prepare(self, plans: Sequence[EpochPlan], first: int) -> None:  # noqa: B027
        """Called before an epoch with its different plans (one, as a rule) and the step to begin at."""

    @abstractmethod
    def __call__(self, batch: Batch) -> Outputs:
        """What the teacher says about each row of the batch."""

    def close(self) -> None:  # noqa: B027
        """Lets go of what the teacher holds; called once, after training."""

    def models(self) -> tuple[nn.Module, ...]:
        """The networks that answer, which must stay as they are."""
        return ()


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
        return said if len(images) == count else _first(said, count)


class Tabled(Teacher):
    """A live teacher whose answers to (image, view) are kept; for finite views, logits and embeddings.

    An epoch's rows are looked up, and those that are missing asked for, before the epoch; a step only
    indexes. images: the training part in the views' order. views: how many there are per image.
    """

    def __init__(self, live: Live, images: Callable[[Rows], Tensor], views: int, table: Table) -> None:
        self.live, self.images, self.views, self.table = live, images, views, table
        self.codes = torch.empty(0, dtype=torch.int64)
        self.answers: dict[str, Tensor] = {}

    def check(self, device: torch.device) -> bool:
        """Compares rows of a found table with a live forward; where bits differ, clears it: False."""
        rows = self.table.some(CHECKED, seed=0)
        if not len(rows):
            return True
        found, now = self.table.read(rows), self._ask(rows, device)
        if all(np.array_equal(found[name], now[name]) for name in found):
            return True
        self.table.clear()
        return False

    def prepare(self, plans: Sequence[EpochPlan], first: int) -> None:
        device = plans[0].rows.index.device
        wanted = torch.cat([plan.rows.index * self.views + plan.rows.view for plan in plans])
        codes = np.unique(wanted.cpu().numpy())
        there = self.table.has(codes)
        missing = codes[~there]
        asked = self._ask(missing, device)
        found = self.table.read(codes[there]) if there.any() else {}
        self.table.write(missing, asked)
        self.saved += len(wanted) - len(missing)
        self.codes, self.answers = torch.from_numpy(codes).to(device), {}
        for name, answers in asked.items():
            whole = np.empty((len(codes), answers.shape[1]), dtype=np.float32)
            whole[~there] = answers
            if there.any():
                whole[there] = found[name]
            self.answers[name] = torch.from_numpy(whole).to(device)

    def __call__(self, batch: Batch) -> Outputs:
        assert batch.rows is not None
        code = batch.rows.index * self.views + batch.rows.view
        place = torch.searchsorted(self.codes, code)
        found = {name: array[place] for name, array in self.answers.items()}
        return Outputs(found["logits"], embedding=found.get("embedding"))

    def close(self) -> None:
        self.table.close()

    def models(self) -> tuple[nn.Module, ...]:
        return self.live.models()

    def _ask(self, codes: NDArray[np.int64], device: torch.device) -> Answers:
        said = {name: [np.empty((0, width), dtype=np.float32)] for name, width in self.table.widths.items()}
        for first in range(0, len(codes), CHUNK):
            code = torch.from_numpy(codes[first : first + CHUNK]).to(device)
            rows = Rows(code // self.views, code % self.views)
            outputs = self.live(Batch(self.images(rows), rows.index, rows))
            for name, arrays in said.items():
                arrays.append(outputs.layer(name).float().cpu().numpy())
        self.forwards = self.live.forwards
        return {name: np.concatenate(arrays) for name, arrays in said.items()}


def _first(said: Outputs, count: int) -> Outputs:
    """The answers to the first rows only."""
    return Outputs(
        said.logits[:count],
        None if said.embedding is None else said.embedding[:count],
        tuple(None if stage is None else stage[:count] for stage in said.stages),
        {name: tensor[:count] for name, tensor in said.layers.items()},
        said.classifier,
    )
