"""Learners that are stacked end as they would alone; plain steps in between change nothing."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kdrun.losses.mix import make_mix
from kdrun.models.taps import Tapped
from kdrun.training.optimisers import optimiser
from kdrun.training.stacked import Stacked
from kdrun.training.step import Learner, Step
from kdrun.training.teachers import Live, NoTeacher, Teacher
from kdrun.types import Outputs, Rows
from tests.training.test_fit import KD, RECIPE, plain

SGD: Any = SimpleNamespace(optimiser="sgd", momentum=0.9, nesterov=True, weight_decay=1e-3)


class Pictures:
    """As images: row i in view v is a picture that depends on both."""

    def prepare(self, rows: Rows, batch: int, first: int) -> None: ...

    def __call__(self, rows: Rows) -> Tensor:
        ramp = torch.linspace(-1, 1, 36, dtype=torch.float64).view(1, 1, 6, 6)
        return torch.cos(ramp * (rows.index.view(-1, 1, 1, 1) % 7 + 1) + rows.view.view(-1, 1, 1, 1) / 10)

    def close(self) -> None: ...


class Says(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, images: Tensor) -> Outputs:
        return Outputs(self.inner(images))


def network(seed: int, bias: bool = False) -> nn.Module:
    """bias: whether the layer before batch normalisation has one, which that takes away again."""
    torch.manual_seed(seed)
    first = nn.Conv2d(1, 4, 3, padding=1, bias=bias)
    layers = first, nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 4, 3)
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(4, 3)).double()


def step(recipe: Any, loss: Any, clip: float | None, count: int, bias: bool = False) -> Step:
    """A step of `count` learners with weights, temperatures and alphas of their own."""
    learners = []
    for number in range(count):
        own = {name: dict(term) for name, term in loss.items()}
        if "soft" in own:
            own["soft"] |= {"temperature": 2.0 + number, "weight": 0.5 + 0.1 * number}
        model, mix = network(number, bias), make_mix(own).double()
        made = optimiser(recipe, [*model.parameters(), *mix.parameters()])
        learners.append(Learner(model, Tapped(model, set()), mix, made, clip))
    told: Teacher = Live(Says(network(99)), plain) if "soft" in loss else NoTeacher()
    return Step(tuple(learners), told, Pictures(), torch.arange(40) % 3, plain)


def rows(number: int, count: int, shared: bool) -> list[Rows]:
    """Of one step: 16 of 40 images, or 5 in every third step."""
    draw = torch.Generator().manual_seed(number)
    size = 5 if number % 3 == 2 else 16
    every = [
        Rows(torch.randperm(40, generator=draw)[:size], torch.randint(9, (size,), generator=draw))
        for _ in range(count)
    ]
    return every[:1] * count if shared else every


def train(plainly: Step, stacked: Stacked, shared: bool) -> None:
    """Twelve steps of both on the same rows."""
    for number in range(12):
        given = rows(number, len(plainly.learners), shared)
        for one in (plainly, stacked):
            one.lr.fill_(0.01 / (number + 1))
            if number % 5 == 0:  # an epoch's first step is watched, so done plainly
                for learner in one.learners:
                    learner.begin(number // 5)
                    learner.mix.watch = lambda *_: nullcontext()
            one(given)
            for learner in one.learners:
                learner.mix.watch = None


@pytest.mark.parametrize("shared", [False, True], ids=["seeds", "same rows"])
@pytest.mark.parametrize(
    ("recipe", "loss", "clip"),
    [(RECIPE, KD, None), (SGD, KD, 0.5), (RECIPE, {"hard": KD["hard"]}, 1.0)],
    ids=["adamw", "sgd", "control"],
)
def test_stacked_learners_end_as_they_would_alone(
    recipe: Any, loss: Any, clip: float | None, shared: bool
) -> None:
    plainly, stacked = step(recipe, loss, clip, 3), Stacked(step(recipe, loss, clip, 3))
    train(plainly, stacked, shared)
    for alone, other in zip(plainly.learners, stacked.learners, strict=True):
        for key, value in alone.state().items():
            _close(value, other.state()[key], key)


def test_what_rounding_does_to_a_bias_that_batch_norm_takes_away() -> None:
    """Its gradient is zero but for rounding, 1e-17, and Adam divides that by its epsilon, 1e-8. So this bias
    alone drifts, by some 1e-10, and the logits stay as they are."""
    plainly, stacked = step(RECIPE, KD, None, 3, bias=True), Stacked(step(RECIPE, KD, None, 3, bias=True))
    train(plainly, stacked, shared=True)
    images = Pictures()(rows(0, 1, True)[0])
    for alone, other in zip(plainly.learners, stacked.learners, strict=True):
        _close(alone.model(images), other.model(images), "logits")
        theirs = dict(other.model.named_parameters())
        for name, value in alone.model.named_parameters():
            if name == "0.bias":
                assert torch.allclose(value, theirs[name], rtol=0, atol=1e-8)
            else:
                _close(value, theirs[name], name)


def _close(one: Any, two: Any, key: str) -> None:
    """Equal up to the rounding of sums that are taken in another order."""
    if isinstance(one, dict):
        assert one.keys() == two.keys()
        for name in one:
            _close(one[name], two[name], f"{key}.{name}")
    elif isinstance(one, list):
        for a, b in zip(one, two, strict=True):
            _close(a, b, key)
    else:
        rtol, atol = (1e-12, 1e-14) if one.dtype == torch.float64 else (1e-6, 0.0)
        assert torch.allclose(one, two, rtol=rtol, atol=atol), key


def test_what_draws_random_numbers_is_done_plainly() -> None:
    ends = []
    for wrap in (lambda step: step, Stacked):
        made = step(RECIPE, KD, None, 2)
        for learner in made.learners:
            learner.model.append(nn.Dropout(0.5))
        torch.manual_seed(5)
        stepping = wrap(made)
        stepping(rows(0, 2, False))
        ends.append([value for learner in made.learners for value in learner.model.state_dict().values()])
    assert "random" in stepping.refused
    assert all(map(torch.equal, *ends))
