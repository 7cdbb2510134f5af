"""A step as a graph does what the step does, bit for bit, and leaves no trace of how it came about."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kdrun.data.resident import Resident
from kdrun.data.views import CropFlip
from kdrun.errors import KdrunError
from kdrun.graphs import CudaGraphs
from kdrun.losses.mix import Mix, make_mix
from kdrun.progress.journal import Journal
from kdrun.training.captured import Captured, captured, unchanged
from kdrun.training.checkpoint import Checkpoint, Pace, read_state
from kdrun.training.compiled import compile_models
from kdrun.training.fit import Course, Strand, fit
from kdrun.training.mutual import Mutual
from kdrun.training.optimisers import optimiser
from kdrun.training.plan import RowSet
from kdrun.training.seeds import Draws, generators
from kdrun.training.stacked import Stacked
from kdrun.training.step import Learner, Step, Stepping
from kdrun.training.teachers import Live
from kdrun.types import Batch, Outputs, Rows, Shapes
from tests.recorded import Recorded
from tests.training.test_fit import RECIPE, Killed, Quiet, plain

FALLING = {"from": 0.9, "to": 0.2, "epochs": 2, "shape": "linear"}
LOSS: dict[str, dict[str, Any]] = {
    "hard": {"name": "cross_entropy", "weight": 0.1},
    "soft": {"name": "soft_targets", "weight": FALLING, "temperature": {**FALLING, "to": 4.0}},
    "crd": {"name": "crd", "weight": 0.3, "negatives": 5, "dimension": 3},
}
SGD: Any = type(RECIPE)(**{**vars(RECIPE), "optimiser": "sgd", "momentum": 0.9, "schedule": "cosine"})
SHAPE = (2, 6, 6)
IMAGES = 20
on_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


class Network(nn.Module):
    """Convolution, batch norm, dropout and a head; counts calls in training, which no checkpoint holds."""

    calls: Tensor

    def __init__(self, seed: int, dropout: float = 0.3) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.register_buffer("calls", torch.zeros(()), persistent=False)
        self.body = nn.Sequential(nn.Conv2d(2, 5, 3), nn.BatchNorm2d(5), nn.ReLU(), nn.Dropout(dropout))
        self.head = nn.Linear(5, 4)

    def forward(self, images: Tensor) -> Outputs:
        self.calls += self.training
        embedding = self.body(images).mean((2, 3))
        return Outputs(self.head(embedding), embedding)


def built(loss: dict[str, dict[str, Any]]) -> Mix:
    mix, shapes = make_mix(loss), Shapes({"logits": (4,), "embedding": (5,)}, 0)
    torch.manual_seed(7)
    mix.build(shapes, shapes, images=IMAGES)
    return mix


class World:
    """Three epochs of six steps, the last of each a smaller one; one learner for each seed."""

    def __init__(
        self,
        folder: Path,
        recipe: Any = RECIPE,
        loss: dict[str, dict[str, Any]] = LOSS,
        seeds: tuple[int, ...] = (0,),
        dropout: float = 0.3,
        device: str = "cpu",
        rows: int = 44,
    ) -> None:
        self.device, self.rows = torch.device(device), rows
        self.folder, self.seeds, self.said = folder, seeds, list[str]()
        folder.mkdir(exist_ok=True)
        views = CropFlip(SHAPE, padding=2)
        pixels = torch.randint(256, (IMAGES, *SHAPE), generator=torch.Generator().manual_seed(1))
        images = Resident(pixels.to(torch.uint8), views, [0.5, 0.4], [0.2, 0.3], 255.0, device)
        told = Live(Network(99).to(device), plain)
        self.learners = [self.learner(n, recipe, loss, dropout) for n in range(len(seeds))]
        labels = torch.arange(IMAGES, device=device) % 4
        self.step = Step(tuple(self.learners), told, images, labels, plain)
        self.act: Stepping = self.step
        self.course = Course(3, 3, RowSet(torch.arange(IMAGES), rows, 8), views, recipe)
        self.pace = Pace(1e9, 60.0)

    def learner(self, number: int, recipe: Any, loss: dict[str, dict[str, Any]], dropout: float) -> Learner:
        model, mix = Network(number, dropout).to(self.device), built(loss).to(self.device)
        chosen = optimiser(recipe, [*model.parameters(), *mix.parameters()])
        draws = Draws(number, "dropout") if len(self.seeds) > 1 else None
        return Learner(model, model, mix, chosen, 1.0, draws)

    def strand(self, number: int, learner: Learner) -> Strand:
        folder = self.folder / str(number)
        folder.mkdir(exist_ok=True)
        state = Checkpoint(folder / "state.pt", [learner], self.pace, {})
        journal = Journal(folder, "student", Quiet(), self.rows)
        return Strand("student", self.seeds[number], (learner,), state, journal, dict)

    def run(self, graph: bool, last: int = 10**9) -> list[Tensor]:
        """All that is left behind by a training that may be broken off after some steps."""
        torch.manual_seed(11)
        step = self.captured() if graph else self.act
        strands = [self.strand(*pair) for pair in enumerate(self.learners)]
        states = [read_state(strand.checkpoint.path) for strand in strands]
        positions = [s.checkpoint.restore(state) for s, state in zip(strands, states, strict=True)]
        fit(self.course, Until(step, last), strands, positions[0])
        return self.left()

    def captured(self) -> Stepping:
        self.graphs: Any = CudaGraphs(self.device) if self.device.type == "cuda" else Recorded()
        return captured(self.act, self.step.images, self.graphs, self.said.append)

    def left(self) -> list[Tensor]:
        states = generators()
        found = [torch.tensor(self.step.teacher.forwards), states["cpu"], *states["cuda"]]
        for learner in self.learners:
            state = learner.state()
            found += [*state["model"].values(), *state["mix"].values(), learner.mix.weights]
            found += [tensor for tensors in state["optimiser"].values() for tensor in tensors]
        return found


class Until:
    """The step until it is broken off."""

    def __init__(self, step: Stepping, last: int) -> None:
        self.step, self.left = step, last
        self.learners, self.teacher, self.lr, self.prepare = (
            step.learners,
            step.teacher,
            step.lr,
            step.prepare,
        )

    def __call__(self, rows: Any) -> None:
        if not self.left:
            raise Killed
        self.left -= 1
        self.step(rows)


def same(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


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
    recording = 3  # twice rehearsed, once recorded
    assert sorted(sizes) == [4] * recording + [8] * (3 + recording)  # and the first step of each epoch
    assert repeated.said == []


@pytest.mark.parametrize("last", [1, 8, 12])
def test_a_training_that_was_broken_off_ends_with_the_same_bits(tmp_path: Path, last: int) -> None:
    alone = World(tmp_path / "alone").run(graph=False)
    first = World(tmp_path / "graph")
    first.pace = Pace(1e9, 0.0)  # after every step
    with pytest.raises(Killed):
        first.run(graph=True, last=last)
    second = World(tmp_path / "graph").run(graph=True)
    assert same(second[1:], alone[1:])  # how often the teacher was asked is counted anew by every process


def test_recording_leaves_no_trace(tmp_path: Path) -> None:
    world = World(tmp_path)
    step = world.captured()
    assert isinstance(step, Captured)
    rows = Rows(torch.arange(8), torch.zeros(8, dtype=torch.int64))
    step.plans, step.whose, step.batch = [rows], [0], 8
    before = [tensor.clone() for tensor in world.left()]
    places = [tensor.data_ptr() for tensor in world.left()[-20:]]
    step._record(8)
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
    loss = {name: LOSS[name] for name in ("hard", "soft")}
    alone, world = (World(tmp_path / name, SGD, loss, rows=20) for name in ("alone", "compiled"))
    torch.compiler.reset()
    compile_models(world.step, backend="aot_eager", fullgraph=True)
    for one, other in zip(world.run(graph=False), alone.run(graph=False), strict=True):
        torch.testing.assert_close(one, other)


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
    alone = World(tmp_path / "alone", recipe, device="cuda").run(graph=False)
    world = World(tmp_path / "graph", recipe, device="cuda")
    assert same(world.run(graph=True), alone)
    assert world.said == []


@on_cuda
def test_a_training_that_was_broken_off_ends_with_the_same_bits_on_a_gpu(
    tmp_path: Path, exact_kernels: None
) -> None:
    alone = World(tmp_path / "alone", device="cuda").run(graph=False)
    first = World(tmp_path / "graph", device="cuda")
    first.pace = Pace(1e9, 0.0)
    with pytest.raises(Killed):
        first.run(graph=True, last=8)
    assert same(World(tmp_path / "graph", device="cuda").run(graph=True)[1:], alone[1:])


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
