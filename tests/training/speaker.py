"""A small frozen teacher with all that one may say, its images, and the plans of epochs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from kdrun.training.plan import DrawnViews, EpochPlan, RowSet, epoch_plan
from kdrun.training.table import AnswerTable
from kdrun.training.tabled import Tabled
from kdrun.training.teachers import Live, Teacher
from kdrun.types import Batch, HeadWeights, Outputs, Rows
from tests.recorded import Recorded
from tests.training.world import Codes, plain

IMAGES, VIEWS, CLASSES = 50, 10, 7
CPU = torch.device("cpu")


class Speaker(nn.Module):
    """A convolutional network that says everything."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.features = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU())
        self.head = nn.Linear(16, CLASSES)

    def forward(self, images: Tensor) -> Outputs:
        maps = self.features(images)
        embedding = maps.mean((2, 3))
        head = HeadWeights(self.head.weight, self.head.bias)
        return Outputs(self.head(embedding), embedding, (None, maps), {"tokens": maps.flatten(2)}, head)


class Drawn:
    """Views of two drawn numbers."""

    def draw(self, generator: torch.Generator, n: int) -> Tensor:
        return torch.rand(n, 2, generator=generator)


def images(rows: Rows) -> Tensor:
    base = torch.linspace(-3, 3, 3 * 8 * 8).view(1, 3, 8, 8)
    view = rows.view if rows.view.dim() == 1 else rows.view.sum(1)
    shift = (rows.index * VIEWS + view).view(-1, 1, 1, 1) / 37
    return torch.sin(base * 5 + shift).contiguous(memory_format=torch.channels_last)


def live(seed: int = 0) -> Live:
    return Live(Speaker(seed), plain)


def table(folder: Path, key: str = "k", numbers: str = "fp32") -> AnswerTable:
    return AnswerTable(folder, IMAGES * VIEWS, {"logits": CLASSES, "embedding": 16}, key, numbers)


def tabled(folder: Path, chunk: int = 128, room: int = 0, numbers: str = "fp32") -> Tabled:
    return Tabled(live(), images, VIEWS, table(folder, numbers=numbers), chunk, room)


def plans(
    epoch: int, batch: int = 8, seeds: Sequence[int] = (0,), views: DrawnViews | None = None
) -> list[EpochPlan]:
    """Of an epoch of 50 rows; with batches of 8 the last has two."""
    rows = RowSet(torch.arange(IMAGES), IMAGES, batch)
    return [epoch_plan(seed, epoch, rows, views or Codes(), CPU) for seed in seeds]


def answers(
    teacher: Teacher,
    every: Sequence[EpochPlan],
    first: int = 0,
    seen: Callable[[Rows], Tensor] = images,
) -> list[Outputs]:
    """All that a teacher says in the steps of an epoch from `first` on, plan after plan. seen: the images."""
    teacher.prepare(every, first)
    found = []
    for step, rows in enumerate(zip(*(plan.batches(first) for plan in every), strict=True), first):
        teacher.before(step)
        found += [teacher(Batch(seen(part), part.index, part)) for part in rows]
    return found


def repeats(teacher: Teacher, views: DrawnViews, layer: str) -> bool:
    """Whether a call that was recorded in an epoch says what the live teacher says in that and later ones."""
    now, (plan,) = live(), plans(0, views=views)
    teacher.prepare([plan], 0)
    here = Rows(plan.rows.index[:8].clone(), plan.rows.view[:8].clone())
    batch = Batch(images(here), here.index, here)
    outputs = teacher(batch).layer(layer).clone()

    def act() -> None:
        outputs.copy_(teacher(batch).layer(layer))

    again, right = Recorded().record(act), True
    for epoch in (0, 1, 2):
        (plan,) = plans(epoch, views=views)
        teacher.prepare([plan], 0)
        for step, rows in enumerate(part for part in plan.batches() if len(part.index) == 8):
            teacher.before(step)
            here.index.copy_(rows.index)
            here.view.copy_(rows.view)
            again()
            right &= torch.equal(outputs, now(Batch(images(rows), rows.index, rows)).layer(layer))
    return right


def same(one: Sequence[Outputs], two: Sequence[Outputs], maps: bool = True) -> bool:
    """Whether two teachers answers the same, bit for bit. maps: all of it, or only logits and embedding."""
    pairs = zip(one, two, strict=True)
    kept = slice(None) if maps else slice(2)
    return all(
        torch.equal(a, b) and a.stride() == b.stride()
        for first, second in pairs
        for a, b in zip(*(list(each.named().values())[kept] for each in (first, second)), strict=True)
    )
