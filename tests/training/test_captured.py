"""A step as a graph does what the step does, bit for bit, and leaves no trace of how it came about."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from kdrun.errors import KdrunError
from kdrun.training.captured import Captured, unchanged
from kdrun.training.checkpoint import SavePace
from kdrun.training.compiled import compile_losses, compile_models
from kdrun.training.mutual import Mutual
from kdrun.training.plan import EpochPlan
from kdrun.training.stacked import Stacked
from kdrun.training.step import Step
from kdrun.types import Batch, Outputs, Rows
from tests.training.graph_world import LOSS, SGD, SHAPE, World, same
from tests.training.world import RECIPE, Killed

ORDERED = {name: term for name, term in LOSS.items() if name != "crd"}
"""Without the term whose gradients a GPU adds up in an order that is left to chance."""

on_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.mark.parametrize("recipe", [SGD, RECIPE], ids=["sgd", "adamw"])
def test_fifty_steps_end_with_the_same_bits(
    tmp_path: Path, recipe: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = World(tmp_path / "alone", recipe, rows=132).run(graph=False)
    repeated, sizes = World(tmp_path / "graph", recipe, rows=132), []
    one_by_one = Step.__call__
    monkeypatch.setattr(
        Step, "__call__", lambda self, rows: (sizes.append(len(rows[0].index)), one_by_one(self, rows))[1]
    )
    assert same(repeated.run(graph=True), alone)
    recording = 2 * 3  # twice rehearsed, once recorded; again when crd has seen all classes
    assert sorted(sizes) == [4] * recording + [8] * recording
    assert repeated.said == []


@pytest.mark.parametrize("last", [1, 8, 12])
def test_a_training_that_was_broken_off_ends_with_the_same_bits(tmp_path: Path, last: int) -> None:
    alone = World(tmp_path / "alone").run(graph=False)
    first = World(tmp_path / "graph")
    first.pace = SavePace(1e9, 0.0)  # after every step
    with pytest.raises(Killed):
        first.run(graph=True, last=last)
    second = World(tmp_path / "graph").run(graph=True)
    assert same(second[1:], alone[1:])  # how often the teacher was asked is counted anew by every process


def test_recording_leaves_no_trace(tmp_path: Path) -> None:
    world = World(tmp_path)
    step = world.captured()
    assert isinstance(step, Captured)
    rows = Rows(torch.arange(8), torch.zeros(8, dtype=torch.int64))
    step.prepare([EpochPlan(rows, 8, 1)], 0)
    before = [tensor.clone() for tensor in world.left()]
    places = [tensor.data_ptr() for tensor in world.left()[-20:]]
    step.record(8)
    assert list(step.graph) == [8]
    assert same(world.left(), before)
    assert [tensor.data_ptr() for tensor in world.left()[-20:]] == places
    assert world.learners[0].model.calls == 0
    with unchanged(step, step.position):
        step([rows])
        assert not same(world.left(), before)
        assert world.learners[0].model.calls == 1
    assert same(world.left(), before)


def test_a_part_that_rules_a_graph_out_is_named(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.step.learners[0].mix.terms[1].loss.capturable = False
    assert world.captured() is world.step
    (line,) = world.said
    assert line.endswith("piece by piece: loss.soft waits for the device or is other work in each step")


def reads(student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
    return student.logits.square().mean() * teacher.logits.max().item()


def test_what_cannot_be_recorded_is_said_once_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kdrun.losses.crd.CRD.forward", lambda self, *given: reads(*given))
    alone = World(tmp_path / "alone").run(graph=False)
    world = World(tmp_path / "graph")
    assert same(world.run(graph=True), alone)
    (line,) = world.said
    assert line.endswith(
        "piece by piece: operation not permitted when stream is capturing: _local_scalar_dense"
    )


def test_a_term_that_teaches_nothing_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kdrun.losses.crd.CRD.forward", lambda self, student, *_: (student.logits * 0).sum())
    with pytest.raises(KdrunError, match=r"^loss\.crd: its gradient on the student is exactly zero"):
        World(tmp_path).run(graph=True)


@pytest.mark.parametrize(
    ("seeds", "others"), [((0, 0), None), ((0, 5), None), ((0, 0), Mutual), ((0, 5), Stacked)]
)
def test_several_learn_as_one_graph(tmp_path: Path, seeds: tuple[int, ...], others: Any) -> None:
    loss, worlds = {name: LOSS[name] for name in ("hard", "soft")}, []
    for name in ("alone", "graph"):
        worlds.append(World(tmp_path / name, SGD, loss, seeds, dropout=0.0))
        worlds[-1].act = others(worlds[-1].step) if others else worlds[-1].step
    assert same(worlds[1].run(graph=True), worlds[0].run(graph=False))
    assert worlds[1].said == []
    assert others or worlds[1].graphs.used[:4] == [0, 1, 0, 1]


def test_several_that_draw_random_numbers_learn_one_by_one(tmp_path: Path) -> None:
    alone = World(tmp_path / "alone", seeds=(0, 0)).run(graph=False)
    world = World(tmp_path / "graph", seeds=(0, 0))
    assert same(world.run(graph=True), alone)
    (line,) = world.said
    assert line.endswith("models that draw random numbers learn beside others")


def test_compiled_models_learn_the_same(tmp_path: Path) -> None:
    from torch._dynamo.backends.registry import lookup_backend

    loss = {name: LOSS[name] for name in ("hard", "soft")}
    alone, world = (World(tmp_path / name, SGD, loss, rows=20) for name in ("alone", "compiled"))
    torch.compiler.reset()
    aot_eager, sizes = lookup_backend("aot_eager"), list[int]()

    def backend(module: Any, inputs: list[Tensor]) -> Any:
        sizes.extend(len(tensor) for tensor in inputs if tensor.dim() == 4 and tensor.shape[1:] == SHAPE)
        return aot_eager(module, inputs)

    compile_models(world.step, 8, backend=backend, fullgraph=True)
    for one, other in zip(world.run(graph=False), alone.run(graph=False), strict=True):
        torch.testing.assert_close(one, other)
    assert sizes and set(sizes) == {8}  # the last batch of an epoch has 4, and is not compiled


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # which torch's compiler hides in its own way
def test_compiled_losses_teach_the_same(tmp_path: Path) -> None:
    """Whole, and for full batches alone; a loss that draws random numbers stays as it is."""
    from torch._dynamo.testing import CompileCounterWithBackend

    for names, compiled in ((("hard", "soft"), 1), (("hard", "crd"), 0)):
        loss = {name: LOSS[name] for name in names}
        alone, world = (
            World(tmp_path / f"{name}-{names[1]}", SGD, loss, rows=20) for name in ("alone", "fast")
        )
        torch.compiler.reset()
        counter = CompileCounterWithBackend("aot_eager")
        compile_losses(world.step, 8, backend=counter, fullgraph=True)
        for one, other in zip(world.run(graph=False), alone.run(graph=False), strict=True):
            torch.testing.assert_close(one, other)
        assert counter.frame_count == compiled


@pytest.fixture
def exact_kernels() -> Iterator[None]:
    """Those that give the same bits each time."""
    with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
        yield


@on_cuda
@pytest.mark.parametrize("recipe", [SGD, RECIPE], ids=["sgd", "adamw"])
def test_three_epochs_end_with_the_same_bits_on_a_gpu(
    tmp_path: Path, recipe: Any, exact_kernels: None
) -> None:
    alone = World(tmp_path / "alone", recipe, ORDERED, device="cuda").run(graph=False)
    world = World(tmp_path / "graph", recipe, ORDERED, device="cuda")
    assert same(world.run(graph=True), alone)
    assert world.said == []


@on_cuda
def test_a_training_that_was_broken_off_ends_with_the_same_bits_on_a_gpu(
    tmp_path: Path, exact_kernels: None
) -> None:
    alone = World(tmp_path / "alone", loss=ORDERED, device="cuda").run(graph=False)
    first = World(tmp_path / "graph", loss=ORDERED, device="cuda")
    first.pace = SavePace(1e9, 0.0)
    with pytest.raises(Killed):
        first.run(graph=True, last=8)
    second = World(tmp_path / "graph", loss=ORDERED, device="cuda").run(graph=True)
    assert same(second[1:], alone[1:])


@on_cuda
def test_what_cannot_be_recorded_goes_on_on_a_gpu(
    tmp_path: Path, exact_kernels: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kdrun.losses.crd.CRD.forward", lambda self, *given: reads(*given))
    alone = World(tmp_path / "alone", device="cuda").run(graph=False)
    world = World(tmp_path / "graph", device="cuda")
    assert same(world.run(graph=True), alone)
    assert len(world.said) == 1


@on_cuda
@pytest.mark.parametrize("seeds", [(0, 0), (0, 5)])
def test_several_learn_as_one_graph_on_a_gpu(
    tmp_path: Path, seeds: tuple[int, ...], exact_kernels: None
) -> None:
    loss = {name: LOSS[name] for name in ("hard", "soft")}
    alone = World(tmp_path / "alone", SGD, loss, seeds, 0.0, "cuda").run(graph=False)
    world = World(tmp_path / "graph", SGD, loss, seeds, 0.0, "cuda")
    assert same(world.run(graph=True), alone)
    assert world.said == []
