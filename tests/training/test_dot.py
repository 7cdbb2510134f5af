"""Two momenta: the paper's equations, written out; without a difference the plain optimiser; as a graph."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kdrun.losses.mix import Mix, make_mix
from kdrun.training.optimisers import Dot, Optimiser, optimiser
from kdrun.training.step import Learner
from kdrun.types import Batch, Outputs, Shapes
from tests.training import graph_world
from tests.training.graph_world import same
from tests.training.world import plain

LOSS = {
    "hard": {"name": "cross_entropy", "weight": 0.25},
    "soft": {"name": "soft_targets", "weight": 0.75, "temperature": 2.0},
    "hint": {"name": "feature", "student_layer": "embedding", "teacher_layer": "embedding", "weight": 0.5},
}
MOMENTUM, DELTA, DECAY = 0.9, 0.075, 5e-4
SGD = {"optimiser": "sgd", "momentum": MOMENTUM, "nesterov": False, "weight_decay": DECAY}
CASES: list[dict[str, Any]] = [
    SGD,
    SGD | {"nesterov": True},
    {"optimiser": "adam", "betas": [0.9, 0.99], "weight_decay": 1e-2},
    {"optimiser": "adamw", "betas": [0.9, 0.99], "weight_decay": 1e-2},
]


class Network(nn.Module):
    """Two layers; gives the embedding between them too."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Sequential(nn.Linear(6, 5), nn.Tanh()), nn.Linear(5, 4)

    def forward(self, images: Tensor) -> Outputs:
        embedding = self.body(images)
        return Outputs(self.head(embedding), embedding)


class World:
    """A student in float64 that learns from labels, logits and an embedding, through an adapter."""

    def __init__(self, settings: dict[str, Any], delta: float | None, clip: float | None = None) -> None:
        torch.manual_seed(5)
        self.model = Network().double()
        self.mix = make_mix(LOSS)
        self.mix.build(Shapes({"embedding": (5,)}, 0), Shapes({"embedding": (7,)}, 0))
        self.mix.double()
        self.mix.weights = torch.tensor([0.25, 0.75, 0.5], dtype=torch.float64)
        self.learned = [*self.model.parameters(), *self.mix.parameters()]
        chosen: Any = SimpleNamespace(**settings)
        self.optimiser = optimiser(chosen, self.learned, delta)
        self.learner = Learner(self.model, self.model, plain, self.mix, self.optimiser, clip)

    def go(self, steps: Sequence[int]) -> list[Tensor]:
        for step in steps:
            batch, teacher, lr = given(step)
            self.learner.learn(batch, teacher, lr)
        return [parameter.detach().clone() for parameter in self.learned]


def given(step: int) -> tuple[Batch, Outputs, Tensor]:
    """Batch, what the teacher says about it, and the learning rate of a step."""
    draw = torch.Generator().manual_seed(step)
    images, logits, embedding = (
        torch.randn(8, width, generator=draw, dtype=torch.float64) for width in (6, 4, 7)
    )
    labels = torch.randint(-1, 4, (8,), generator=draw)
    return (
        Batch(images, labels),
        Outputs(logits, embedding),
        torch.tensor(0.3 / (1 + step), dtype=torch.float64),
    )


def by_the_paper(steps: int, clip: float | None) -> list[Tensor]:
    """The parameters after so many steps; one by one, term by term, buffer by buffer."""
    world = World(SGD, None)
    task, taught = ([torch.zeros_like(p) for p in world.learned] for _ in range(2))
    for step in range(steps):
        batch, teacher, lr = given(step)
        values = world.mix(world.model(batch.images), teacher, batch).values
        both = [0.25 * values[0], 0.75 * values[1] + 0.5 * values[2]]
        g_task, g_taught = (
            torch.autograd.grad(loss, world.learned, retain_graph=True, allow_unused=True) for loss in both
        )
        total = [(0 if a is None else a) + b for a, b in zip(g_task, g_taught, strict=True)]
        norm = torch.cat([g.flatten() for g in total]).norm().item()
        scale = 1.0 if clip is None else min(1.0, clip / (norm + 1e-6))
        with torch.no_grad():
            for p, v, w, g, h in zip(world.learned, task, taught, g_task, g_taught, strict=True):
                if g is None:  # only the teacher's terms reach an adapter: one momentum
                    w.copy_(MOMENTUM * w + scale * h + DECAY * p)
                else:
                    v.copy_((MOMENTUM - DELTA) * v + scale * g + DECAY * p)
                    w.copy_((MOMENTUM + DELTA) * w + scale * h)
                p -= lr * (v + w)
    return [p.detach() for p in world.learned]


@pytest.mark.parametrize("clip", [None, 0.5])
def test_is_the_papers_equations(clip: float | None) -> None:
    states, expected = World(SGD, DELTA, clip).go(range(20)), by_the_paper(20, clip)
    for ours, theirs in zip(states, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    assert (states[0] - World(SGD, None, clip).go(range(20))[0]).abs().max() > 1e-2


@pytest.mark.parametrize("settings", CASES, ids=["sgd", "nesterov", "adam", "adamw"])
def test_without_a_difference_it_is_the_plain_optimiser(settings: dict[str, Any]) -> None:
    states, expected = World(settings, 0.0, 0.5).go(range(10)), World(settings, None, 0.5).go(range(10))
    for ours, theirs in zip(states, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("settings", CASES[::3], ids=["sgd", "adamw"])
def test_continues_bit_for_bit_from_its_state(settings: dict[str, Any]) -> None:
    uninterrupted = World(settings, DELTA).go(range(6))
    first, second = World(settings, DELTA), World(settings, DELTA)
    first.go(range(3))
    second.learner.load(first.learner.state())
    states = second.go(range(3, 6))
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(states, uninterrupted, strict=True))


def test_a_step_as_a_graph_ends_with_the_same_bits(tmp_path: Path) -> None:
    class Captured(graph_world.World):
        def optimiser(self, chosen: Optimiser) -> Optimiser:
            return Dot(chosen, DELTA)

    alone, repeated = (Captured(tmp_path / name) for name in ("alone", "graph"))
    assert same(repeated.run(graph=True), alone.run(graph=False))
    assert repeated.said == []


def test_of_one_kind_of_term_there_is_one_momentum() -> None:
    def alone(delta: float | None) -> list[Tensor]:
        world = World(SGD, delta)
        world.learner.mix = Mix(world.mix.terms[1:])
        world.learner.sums, world.learner.broken = torch.zeros(2, 4)
        return world.go(range(3))

    assert isinstance(World(SGD, DELTA).optimiser, Dot)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(alone(DELTA), alone(None), strict=True))
