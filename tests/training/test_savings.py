"""A step with savings leaves what a plain one does, bit for bit, and a model without a trace of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kdrun.training.savings import COUNTERS, SAVINGS, SHADOWS, Saving
from tests.training.graph_world import SGD, SHAPE, World, same
from tests.training.world import RECIPE

COUNTS = [[COUNTERS], [SHADOWS], SAVINGS]


def bf16() -> torch.autocast:
    return torch.autocast("cpu", dtype=torch.bfloat16, cache_enabled=False)


def world(folder: Path, recipe: Any = SGD, savings: Any = ()) -> World:
    made = World(folder, recipe)
    for learner in made.learners:
        learner.precision = bf16
        learner.saving = Saving(learner.model, savings, SHAPE) if savings else None
    return made


@pytest.mark.parametrize("savings", COUNTS, ids=" ".join)
@pytest.mark.parametrize("recipe", [SGD, RECIPE], ids=["sgd", "adamw"])
def test_the_same_bits(tmp_path: Path, recipe: Any, savings: list[str]) -> None:
    plain = world(tmp_path / "plain", recipe).run(graph=False)
    assert same(world(tmp_path / "saving", recipe, savings).run(graph=False), plain)


def test_the_same_bits_as_a_graph(tmp_path: Path) -> None:
    plain = world(tmp_path / "plain").run(graph=False)
    graph = world(tmp_path / "graph", savings=SAVINGS)
    assert same(graph.run(graph=True), plain) and graph.said == []


def test_what_is_saved(tmp_path: Path) -> None:
    (learner,) = world(tmp_path, savings=SAVINGS).learners
    saving, model = learner.saving, learner.model
    assert saving is not None
    assert [name for _, name in saving.places] == ["weight", "bias"] * 2 and len(saving.norms) == 1
    before = dict(model.named_parameters())
    with saving.forward(), bf16():
        assert {p.dtype for layer in (model.head, model.body[0]) for p in layer.parameters()} == {
            torch.bfloat16
        }
        model(torch.randn(4, *SHAPE))
    assert all(own is before[name] for name, own in model.named_parameters())
    assert int(model.body[1].num_batches_tracked) == 1


class Twice(nn.Module):
    """A layer that is called twice, two that share a weight, one that is frozen, one that is not called."""

    def __init__(self) -> None:
        super().__init__()
        self.once, self.twice, self.tied, self.frozen, self.unused = (nn.Linear(6, 6) for _ in range(5))
        self.other = nn.Linear(6, 6)
        self.other.weight = self.tied.weight
        self.frozen.requires_grad_(False)
        self.norm = nn.BatchNorm1d(6)

    def forward(self, images: Tensor) -> Tensor:
        flat = self.norm(self.norm(images.flatten(1)[:, :6]))
        return self.frozen(self.other(self.tied(self.twice(self.twice(self.once(flat))))))


def test_only_weights_that_are_converted_once_have_shadows() -> None:
    model = Twice()
    saving = Saving(model, SAVINGS, SHAPE)
    owners = [next(n for n, m in model.named_modules() if m is module) for module, _ in saving.places]
    assert owners == ["once", "once", "tied", "other"]  # of those that share a weight, only the biases
    with saving.forward(), bf16():
        model(torch.randn(4, *SHAPE))
    assert int(model.norm.num_batches_tracked) == 2


def test_an_error_in_the_forward_pass_leaves_the_model_as_it_was(tmp_path: Path) -> None:
    (learner,) = world(tmp_path, savings=SAVINGS).learners
    saving, before = learner.saving, dict(learner.model.state_dict(keep_vars=True))
    assert saving is not None
    with pytest.raises(ValueError, match="inside"), saving.forward():
        raise ValueError("inside")
    assert all(own is before[name] for name, own in learner.model.state_dict(keep_vars=True).items())
