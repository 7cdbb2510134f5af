"""A step with savings leaves what a plain one does, bit for bit, and a model without a trace of them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kdrun.data.resident import Normal
from kdrun.losses.mix import Mix, Term
from kdrun.losses.soft_targets import SoftTargets, soft_targets
from kdrun.models.build import build
from kdrun.models.inputs import Resize
from kdrun.schedule import Schedule
from kdrun.stages.savings import _softened
from kdrun.training.savings import COUNTERS, SHADOWS, Saving, convolution_reads_first
from kdrun.types import Batch, Outputs
from tests.models.conf import node
from tests.training.graph_world import SGD, SHAPE, World, same
from tests.training.speaker import CLASSES, answers, live, plans, tabled
from tests.training.world import RECIPE

BOTH = [COUNTERS, SHADOWS]


def bf16() -> torch.autocast:
    return torch.autocast("cpu", dtype=torch.bfloat16, cache_enabled=False)


def world(folder: Path, recipe: Any = SGD, savings: Any = ()) -> World:
    made = World(folder, recipe)
    for learner in made.learners:
        learner.precision = bf16
        learner.saving = Saving(learner.model, savings, SHAPE) if savings else None
    return made


@pytest.mark.parametrize("savings", [*([name] for name in BOTH), BOTH], ids=" ".join)
@pytest.mark.parametrize("recipe", [SGD, RECIPE], ids=["sgd", "adamw"])
def test_the_same_bits(tmp_path: Path, recipe: Any, savings: list[str]) -> None:
    plain = world(tmp_path / "plain", recipe).run(graph=False)
    assert same(world(tmp_path / "saving", recipe, savings).run(graph=False), plain)


def test_the_same_bits_as_a_graph(tmp_path: Path) -> None:
    plain = world(tmp_path / "plain").run(graph=False)
    graph = world(tmp_path / "graph", savings=BOTH)
    assert same(graph.run(graph=True), plain) and graph.said == []


def test_what_is_saved(tmp_path: Path) -> None:
    (learner,) = world(tmp_path, savings=BOTH).learners
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
    saving = Saving(model, BOTH, SHAPE)
    owners = [next(n for n, m in model.named_modules() if m is module) for module, _ in saving.places]
    assert owners == ["once", "once", "tied", "other"]  # of those that share a weight, only the biases
    with saving.forward(), bf16():
        model(torch.randn(4, *SHAPE))
    assert int(model.norm.num_batches_tracked) == 2


def test_an_error_in_the_forward_pass_leaves_the_model_as_it_was(tmp_path: Path) -> None:
    (learner,) = world(tmp_path, savings=BOTH).learners
    saving, before = learner.saving, dict(learner.model.state_dict(keep_vars=True))
    assert saving is not None
    with pytest.raises(ValueError, match="inside"), saving.forward():
        raise ValueError("inside")
    assert all(own is before[name] for name, own in learner.model.state_dict(keep_vars=True).items())


def test_what_losses_make_of_an_answer_is_made_once(tmp_path: Path) -> None:
    """Also if another term has a temperature that changes, and answers were there already."""
    plain, other = SoftTargets(3.0), SoftTargets(3.0)
    schedule = Schedule.parse({"from": 3.0, "to": 1.0, "epochs": 2, "shape": "linear"}, "temperature")
    one = Schedule(1.0, 1.0)
    mix = Mix([Term("plain", plain, one), Term("other", other, one, {"temperature": schedule})])
    learner = SimpleNamespace(mix=mix)
    for _ in range(2):
        teacher = tabled(tmp_path)
        teacher.derived = dict(_softened([learner]))  # type: ignore[list-item]
        assert (plain.kept, other.kept) == ("log_softmax/3", "")
        for outputs, alone in zip(answers(teacher, plans(0)), answers(live(), plans(0)), strict=True):
            student = torch.randn(len(outputs.logits), CLASSES)
            batch = Batch(torch.empty(0), torch.empty(0))
            expected = soft_targets(student, alone.logits, torch.tensor(3.0))
            assert torch.equal(plain(Outputs(student), outputs, batch), expected)
            assert torch.equal(other(Outputs(student), outputs, batch), expected)
        teacher.close()


def test_images_end_in_bf16_as_a_convolution_would_convert_them() -> None:
    pixels = torch.randint(256, (5, 3, 8, 8), dtype=torch.uint8)
    normal = Normal([0.5, 0.4, 0.3], [0.2, 0.3, 0.1], 255.0, "cpu")
    exact = normal(pixels)
    normal.ends_in = torch.bfloat16
    ended = normal(pixels)
    assert torch.equal(ended, exact.bfloat16()) and ended.stride() == exact.stride()


@pytest.mark.parametrize(
    ("name", "enlarged", "reads"), [("resnet8", 0, True), ("resnet8", 48, False), ("mlp", 0, False)]
)
def test_images_end_in_bf16_only_for_convolutions(name: str, enlarged: int, reads: bool) -> None:
    """A model that enlarges its images reads them in another way."""
    model = build(node(name), 10, (3, 32, 32), "auto", 0).model
    if enlarged:
        model.register_forward_pre_hook(Resize(enlarged, False))
    assert convolution_reads_first(model, (3, 32, 32)) is reads
