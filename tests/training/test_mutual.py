"""Two learners that teach each other are two plain trainings, written out, of which each reads the other."""

from __future__ import annotations

from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdrun.losses.mix import make_mix
from kdrun.training.mutual import Mutual
from kdrun.training.optimisers import optimiser
from kdrun.training.step import Learner, Step
from kdrun.training.teachers import NoTeacher
from kdrun.types import Rows
from tests.training.world import AsOutputs, plain

LOSS = {"hard": {"name": "cross_entropy"}, "peer": {"name": "dml", "weight": 0.5}}
SGD: Any = SimpleNamespace(optimiser="sgd", momentum=0.9, nesterov=False, weight_decay=0.01)
LABELS = torch.tensor([0, 2, -1, 1, 2, 0, -1, 1])
IMAGES = torch.randn(8, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
BATCHES = [
    torch.tensor(rows) for rows in ([0, 1, 2, 3], [4, 5, 6, 7], [0, 2, 4, 6], [1, 3, 5, 7], [7, 6, 1, 0])
]
RATE, RATIO = 0.25, 0.5


class Some:
    """As images: rows of a table."""

    def prepare(self, parts: Iterable[Rows]) -> None: ...

    def __call__(self, rows: Rows) -> Tensor:
        return IMAGES[rows.index]

    def close(self) -> None: ...


def network(width: int) -> nn.Module:
    torch.manual_seed(width)
    return nn.Sequential(nn.Linear(6, width), nn.Tanh(), nn.Linear(width, 3)).double()


def trained(loss: Any, ratio: float = RATIO) -> list[nn.Module]:
    """Both networks after five steps."""
    models = [network(5), network(9)]
    learners = tuple(
        Learner(
            model,
            AsOutputs(model),
            plain,
            make_mix(loss),
            optimiser(SGD, model.parameters()),
            None,
        )
        for model in models
    )
    step = Mutual(Step(learners, NoTeacher(), Some(), LABELS), ratio)
    step.lr.fill_(RATE)
    for index in BATCHES:
        rows = Rows(index, torch.zeros_like(index))
        step([rows])
    return models


def test_five_steps_are_those_of_two_plain_loops() -> None:
    models = [network(5), network(9)]
    buffers = [[torch.zeros_like(p) for p in model.parameters()] for model in models]
    for index in BATCHES:
        outputs = [model(IMAGES[index]) for model in models]
        probabilities = [F.softmax(logits.detach(), dim=1) for logits in outputs]
        known = LABELS[index] >= 0
        for me, rate in ((0, RATE), (1, RATE * RATIO)):
            own = F.log_softmax(outputs[me], dim=1)
            labels = -own[known, LABELS[index][known]].mean()
            peers = probabilities[1 - me]
            divergence = (peers * (peers.log() - own)).sum(1).mean()
            gradients = torch.autograd.grad(labels + 0.5 * divergence, list(models[me].parameters()))
            with torch.no_grad():
                for p, v, g in zip(models[me].parameters(), buffers[me], gradients, strict=True):
                    v.copy_(0.9 * v + g + 0.01 * p)
                    p -= rate * v
    for ours, theirs in zip(trained(LOSS), models, strict=True):
        for one, two in zip(ours.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(one, two, rtol=1e-12, atol=1e-12)


def test_a_peer_that_is_not_read_changes_nothing() -> None:
    alone = {"hard": LOSS["hard"]}
    model, _ = trained(alone)
    other, _ = trained(alone | {"peer": LOSS["peer"] | {"weight": 0.0}}, ratio=3.0)
    taught, _ = trained(LOSS)
    pairs = list(zip(model.parameters(), other.parameters(), taught.parameters(), strict=True))
    assert all(torch.equal(one, two) for one, two, _ in pairs)
    assert not any(torch.equal(one, three) for one, _, three in pairs)
