"""A training whose steps can be recorded as graphs, and all that it leaves behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kdrun.data.resident import Normal, Resident
from kdrun.data.views import CropFlip
from kdrun.graphs import CudaGraphs
from kdrun.losses.mix import Mix, make_mix
from kdrun.progress.journal import Journal
from kdrun.progress.watchers import Watchers
from kdrun.training.captured import captured
from kdrun.training.checkpoint import Checkpoint, SavePace, read_state
from kdrun.training.fit import Course, Strand, fit
from kdrun.training.optimisers import Optimiser, optimiser
from kdrun.training.plan import RowSet
from kdrun.training.seeds import Draws, generators
from kdrun.training.step import Learner, Step, Stepping
from kdrun.training.teachers import Live
from kdrun.types import Outputs, Shapes
from tests.recorded import Recorded
from tests.training.world import RECIPE, Killed, plain

FALLING = {"from": 0.9, "to": 0.2, "epochs": 2, "shape": "linear"}
LOSS: dict[str, dict[str, Any]] = {
    "hard": {"name": "cross_entropy", "weight": 0.1},
    "soft": {"name": "soft_targets", "weight": FALLING, "temperature": {**FALLING, "to": 4.0}},
    "crd": {"name": "crd", "weight": 0.3, "negatives": 5, "dimension": 3},
}
SGD: Any = type(RECIPE)(**{**vars(RECIPE), "optimiser": "sgd", "momentum": 0.9, "schedule": "cosine"})
SHAPE = (2, 6, 6)
IMAGES = 20


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
        self.calls.add_(int(self.training))
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
        self.graphs: Any = CudaGraphs(self.device) if self.device.type == "cuda" else Recorded()
        self.folder, self.seeds, self.said = folder, seeds, list[str]()
        folder.mkdir(exist_ok=True)
        views = CropFlip(SHAPE, padding=2)
        pixels = torch.randint(256, (IMAGES, *SHAPE), generator=torch.Generator().manual_seed(1))
        images = Resident(pixels.to(torch.uint8), views, Normal([0.5, 0.4], [0.2, 0.3], 255.0, device))
        teacher = Live(Network(99).to(device), plain)
        self.learners = [self.learner(n, recipe, loss, dropout) for n in range(len(seeds))]
        labels = torch.arange(IMAGES, device=device) % 4
        self.step = Step(tuple(self.learners), teacher, images, labels, self.graphs.lanes)
        self.act: Stepping = self.step
        self.course = Course(3, 3, RowSet(torch.arange(IMAGES), rows, 8), views, recipe)
        self.pace = SavePace(1e9, 60.0)

    def learner(self, number: int, recipe: Any, loss: dict[str, dict[str, Any]], dropout: float) -> Learner:
        model, mix = Network(number, dropout).to(self.device), built(loss).to(self.device)
        chosen = optimiser(recipe, [*model.parameters(), *mix.parameters()])
        draws = Draws(number, "dropout") if len(self.seeds) > 1 else None
        stream = list(dict.fromkeys(self.seeds)).index(self.seeds[number])
        return Learner(model, model, plain, mix, self.optimiser(chosen), 1.0, draws, stream)

    def optimiser(self, chosen: Optimiser) -> Optimiser:
        """What a learner is updated by."""
        return chosen

    def strand(self, number: int, learner: Learner) -> Strand:
        folder = self.folder / str(number)
        folder.mkdir(exist_ok=True)
        state = Checkpoint(folder / "state.pt", [learner], self.pace, {})
        watchers = Watchers("student", self.rows, [Journal(folder, "student")])
        return Strand("student", self.seeds[number], (learner,), state, watchers, dict)

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
        return captured(self.act, self.step.images, self.graphs, self.said.append)

    def left(self) -> list[Tensor]:
        states = generators()
        left = [torch.tensor(self.step.teacher.forwards), states["cpu"], *states["cuda"]]
        for learner in self.learners:
            state = learner.state()
            left += [*state["model"].values(), *state["mix"].values(), learner.mix.weights]
            left += [tensor for tensors in state["optimiser"].values() for tensor in tensors]
        return left


class Until:
    """The step until it is broken off."""

    def __init__(self, step: Stepping, last: int) -> None:
        self.step, self.left = step, last
        self.learners, self.teacher, self.lr = step.learners, step.teacher, step.lr
        self.prepare, self.before, self.given = step.prepare, step.before, step.given

    def __call__(self, rows: Any) -> None:
        if not self.left:
            raise Killed
        self.left -= 1
        self.step(rows)


def same(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
