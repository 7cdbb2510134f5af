"""Ranks that share a batch compute what a process alone does: terms, gradients, statistics, trainings."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kdrun.errors import KdrunError
from kdrun.losses.base import Loss, Needs
from kdrun.losses.mix import Mix, Term
from kdrun.losses.sharing import Shared
from kdrun.models.sync_batchnorm import synchronise
from kdrun.ranks import Ranks, split
from kdrun.schedule import Schedule
from kdrun.training.optimisers import Dot, optimiser
from kdrun.training.ranks import Ranked, part_of, synchronised
from kdrun.training.step import Learner
from kdrun.training.table import SharedTable
from kdrun.training.tabled import Tabled
from kdrun.training.teachers import Live
from kdrun.types import Batch, Outputs, Rows
from tests.contracts.losses import LOSSES, batch, made, outputs, taken, taken_batch
from tests.training.speaker import CLASSES, CPU, IMAGES, VIEWS, answers, images, live, plans, same, table
from tests.training.threads import on_threads
from tests.training.world import HARD, KD, RECIPE, AsOutputs, Vectors, World, plain

ROWS, COUNT = 7, 4
"""Seven rows are two, two and three rows of three ranks, and none of the fourth."""

pytestmark = pytest.mark.usefixtures("one_thread")

DIST = {"hard": {"name": "cross_entropy"}, "relations": {"name": "dist"}}


@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_a_rank_has_two_rows_or_none(count: int) -> None:
    for rows in range(1, 40):
        sizes = split(rows, count)
        assert len(sizes) == count and sum(sizes) == rows
        some = [size for size in sizes if size]
        assert sizes[: len(some)] == tuple(some) and max(some) - min(some) <= 1
        assert min(some) >= 2 or rows == 1
    assert split(ROWS, COUNT) == (2, 2, 3, 0)


def test_the_page_names_the_losses_that_read_the_outputs_of_all() -> None:
    page = (Path(__file__).parents[2] / "docs" / "ranks.md").read_text()
    (named,) = re.findall(r"a memory bank\*\* \(([^)]*)\)", page)
    assert [name.lower() for name in re.split(r",\s+", named)] == [
        name for name in LOSSES if made(name)[0].of_the_batch
    ]


def leaves(given: Outputs) -> list[Tensor]:
    every = [given.logits, given.embedding, *given.stages, *given.layers.values()]
    return [tensor for tensor in every if tensor is not None]


def pulled(loss: Any, ranks: Ranks, student: Outputs, teacher: Outputs, given: Batch) -> list[Tensor]:
    """A term's value, then its gradients: at all outputs of the student, and at the loss's own weights."""
    mix = Mix([Term("term", copy.deepcopy(loss), Schedule(1.0, 1.0))]).double()
    mix.sharing = Shared(ranks)
    synchronise(mix if not loss.of_the_batch else nn.Identity(), ranks, "term")
    own, weights = ranks.span(len(given.labels)), list(mix.parameters())
    rows = torch.arange(len(given.labels))[own]
    ours = taken(student, rows)
    for tensor in leaves(ours):
        tensor.requires_grad_()
    with ranks.sharing(len(given.labels), seed=5):
        value = mix(ours, taken(teacher, rows), taken_batch(given, rows)).values[0]
        value.backward()
        found = [leaf.grad if leaf.grad is not None else torch.zeros_like(leaf) for leaf in leaves(ours)]
        joined = [ranks.gathered(ranks.counted(gradient), ranks.sizes) for gradient in found]
    learned = [torch.zeros_like(weight) if weight.grad is None else weight.grad for weight in weights]
    return [ranks.total(value), *joined, *map(ranks.total, learned)]


@pytest.mark.parametrize("name", [name for name in LOSSES if name != "mgd"])  # whose masks are a rank's own
def test_shares_of_a_term_and_of_its_gradients_add_up(name: str) -> None:
    loss, student_shapes, teacher_shapes = made(name)
    loss.double()
    student, teacher = outputs(student_shapes, ROWS, 1), outputs(teacher_shapes, ROWS, 2)
    given = batch(ROWS)
    given.labels[torch.tensor([0, 1, 5])] = -1  # no label in the part of the first rank
    alone = pulled(loss, Ranks(), student, teacher, given)
    assert any(gradient.any() for gradient in alone[1:])
    for shared in on_threads(COUNT, lambda ranks: pulled(loss, ranks, student, teacher, given)):
        torch.testing.assert_close(shared, alone, rtol=1e-9, atol=1e-12)


def test_a_loss_that_returns_one_value_must_say_so() -> None:
    class Mean(Loss):
        needs = Needs()

        def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
            return student.logits.mean()

        def formula(self) -> str:
            return "mean"

    given = Outputs(torch.randn(ROWS, 3))
    mix = Mix([Term("own", Mean(), Schedule(1.0, 1.0))])
    assert mix(given, given, batch(ROWS)).total == given.logits.mean()
    mix.sharing = Shared(Ranks())
    with (
        mix.sharing.ranks.sharing(ROWS),
        pytest.raises(KdrunError, match=r"^loss.own.of_the_batch=False: its"),
    ):
        mix(given, given, batch(ROWS))


def norm_of(ranks: Ranks, norm: nn.Module, features: Tensor, gradient: Tensor) -> list[Tensor]:
    model = nn.Sequential(copy.deepcopy(norm))
    synchronise(model, ranks, "runtime.sync_bn")
    span = ranks.span(len(features))
    own = features[span].clone().requires_grad_()
    with ranks.sharing(len(features)):
        result = model(own)
        ranks.counted(result * gradient[span]).sum().backward()
        assert own.grad is not None
        assert not own.grad[ranks.sizes[ranks.rank] :].any()
        joined = [ranks.gathered(ranks.counted(each), ranks.sizes) for each in (result, own.grad)]
    learned = [ranks.total(weight.grad) for weight in model.parameters() if weight.grad is not None]
    return [*joined, *learned, *model.buffers()]


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("momentum", [0.1, None])
def test_a_synchronised_batch_norm_is_that_of_the_whole_batch(affine: bool, momentum: float | None) -> None:
    torch.manual_seed(1)
    norm = nn.BatchNorm2d(3, affine=affine, momentum=momentum).double()
    features = 100 + torch.randn(ROWS, 3, 2, 2, dtype=torch.float64)
    gradient = torch.randn_like(features)
    expected = copy.deepcopy(norm)
    own = features.clone().requires_grad_()
    result = expected(own)
    (result * gradient).sum().backward()
    wanted = [result, own.grad, *(p.grad for p in expected.parameters()), *expected.buffers()]
    for given in on_threads(COUNT, lambda ranks: norm_of(ranks, norm, features, gradient)):
        torch.testing.assert_close(given, wanted, rtol=1e-9, atol=1e-11)


def test_a_synchronised_batch_norm_keeps_the_type_of_its_input() -> None:
    torch.manual_seed(1)
    features, norm = torch.randn(ROWS, 3, 4, 4).bfloat16(), nn.BatchNorm2d(3)
    expected = copy.deepcopy(norm)(features)
    for given in on_threads(COUNT, lambda ranks: norm_of(ranks, norm, features, torch.ones_like(features))):
        assert [each.dtype for each in given[:4]] == [
            torch.bfloat16,
            torch.bfloat16,
            torch.float32,
            torch.float32,
        ]
        torch.testing.assert_close(given[0], expected, rtol=2e-2, atol=2e-2)


def test_a_batch_norm_of_another_class_is_refused() -> None:
    class Other(nn.BatchNorm2d):
        pass

    with pytest.raises(KdrunError, match=r"^runtime.sync_bn=True: 0 is a Other, of which there is no"):
        synchronise(nn.Sequential(Other(3)), Ranks(), "runtime.sync_bn")


class Net(nn.Module):
    """A small network with or without batch norm; the same weights each time."""

    def __new__(cls, norm: bool) -> nn.Module:  # type: ignore[misc]
        torch.manual_seed(3)
        between = [nn.BatchNorm1d(8)] if norm else []
        return nn.Sequential(nn.Linear(6, 8, bias=not norm), *between, nn.ReLU(), nn.Linear(8, 4))


class InTurn(Vectors):
    """Gives the rows that were announced once, in their order, as images do that are read ahead."""

    def prepare(self, parts: Iterable[Rows]) -> None:
        self.left = [(rows.index.data_ptr(), len(rows.index)) for rows in parts]

    def __call__(self, rows: Rows) -> Tensor:
        if self.left and self.left[0][0] == rows.index.data_ptr():
            assert self.left.pop(0)[1] == len(rows.index)
        return super().__call__(rows)


def trained(world: World, ranks: Ranks, sync: bool) -> list[Tensor]:
    """A whole training: weights, buffers, sums of the last epoch."""
    learner = world.step.learners[0]
    world.step.part = lambda rows: part_of(rows, ranks)
    world.step.images = announced = InTurn()
    if sync:
        synchronised(learner, ranks, "runtime.sync_bn")
    step, seen = Ranked(world.step, ranks, seed=4), []
    world.diagnose = lambda: seen.append(1) or {}  # type: ignore[func-returns-value]
    world.step = step  # type: ignore[assignment]
    world.run()
    assert len(seen) == 6 and not announced.left
    return [tensor.float() for tensor in learner.model.state_dict().values()]


def world(folder: Path, loss: Any, norm: bool, delta: float | None = None) -> World:
    made = World(folder, loss, labelled=11)
    model, (learner,) = Net(norm), made.step.learners
    chosen = optimiser(RECIPE, model.parameters(), delta)
    mine = Learner(model, AsOutputs(model), plain, learner.mix, chosen, 1.0)
    made.model, made.step.learners, made.checkpoint.learners = model, (mine,), [mine]
    return made


@pytest.mark.parametrize(
    ("loss", "norm", "delta"), [(KD, False, None), (KD, True, 0.05), (DIST, True, None), (HARD, True, None)]
)
def test_a_training_of_three_ranks_is_that_of_one(
    tmp_path: Path, loss: Any, norm: bool, delta: float | None
) -> None:
    """20 rows in batches of 8, of which the last has 4: no row for the third rank."""
    alone = world(tmp_path / "alone", loss, norm, delta)
    expected = alone.run()
    worlds = [world(tmp_path / str(rank), loss, norm, delta) for rank in range(3)]
    every = on_threads(3, lambda ranks: trained(worlds[ranks.rank], ranks, sync=norm))
    for given in every:
        torch.testing.assert_close(
            given, [tensor.float() for tensor in expected.values()], rtol=1e-4, atol=1e-5
        )
    assert all(torch.equal(a, b) for other in every[1:] for a, b in zip(every[0], other, strict=True))
    lines = [(tmp_path / name / "metrics.jsonl").read_text().splitlines() for name in ("alone", "0")]
    assert len(lines[0]) == len(lines[1]) == 6
    assert isinstance(alone.step.learners[0].optimiser, Dot) == (delta is not None)


def asked(ranks: Ranks, folder: Path, own: Live) -> tuple[int, int, list[Outputs]]:
    """How many answers this rank asked for and looked up, and all of two epochs. Rank 0 keeps the table."""
    opening = partial(table, folder)
    shared = SharedTable(ranks, opening, IMAGES * VIEWS, {"logits": CLASSES, "embedding": 16}, "fp32")
    teacher = Tabled(own, images, VIEWS, shared, chunk=4, ranks=ranks)
    assert teacher.check(CPU)
    found = [*answers(teacher, plans(0)), *answers(teacher, plans(0), first=2)]
    teacher.close()
    return teacher.forwards, teacher.saved, found


def test_ranks_make_one_table_together(tmp_path: Path) -> None:
    now = live()
    expected = [*answers(now, plans(0)), *answers(now, plans(0), first=2)]
    copies = [live() for _ in range(3)]  # not made by the threads, which have one random generator
    first = on_threads(3, lambda ranks: asked(ranks, tmp_path, copies[ranks.rank]))
    assert sum(forwards for forwards, _, _ in first) == IMAGES
    assert all(same(found, expected, maps=False) for _, _, found in first)
    later = on_threads(2, lambda ranks: asked(ranks, tmp_path, copies[ranks.rank]))
    assert [saved for _, saved, _ in later] == [2 * IMAGES - 16] * 2
    assert all(same(found, expected, maps=False) for _, _, found in later)
