"""Learners that are stacked end as they would alone; plain steps in between change nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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
from kdrun.types import Rows
from tests.training.world import KD, RECIPE, AsOutputs, plain

SGD: Any = SimpleNamespace(optimiser="sgd", momentum=0.9, nesterov=True, weight_decay=1e-3)


class Pictures:
    """As images: row i in view v is a picture that depends on both."""

    def prepare(self, parts: Iterable[Rows]) -> None: ...

    def __call__(self, rows: Rows) -> Tensor:
        ramp = torch.linspace(-1, 1, 36, dtype=torch.float64).view(1, 1, 6, 6)
        return torch.cos(ramp * (rows.index.view(-1, 1, 1, 1) % 7 + 1) + rows.view.view(-1, 1, 1, 1) / 10)

    def close(self) -> None: ...


def network(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    first = nn.Conv2d(1, 4, 3, padding=1, bias=False)  # a bias would have no gradient but rounding errors
    layers = first, nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 4, 3)
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(4, 3)).double()


def step(recipe: Any, loss: Any, clip: float | None, streams: Sequence[int]) -> Step:
    """A step of learners with weights, temperatures and alphas of their own; which rows each learns from."""
    learners = []
    for number, stream in enumerate(streams):
        own = {name: dict(term) for name, term in loss.items()}
        if "soft" in own:
            own["soft"] |= {"temperature": 2.0 + number, "weight": 0.5 + 0.1 * number}
        model, mix = network(number), make_mix(own).double()
        made = optimiser(recipe, [*model.parameters(), *mix.parameters()])
        learners.append(Learner(model, Tapped(model, set()), plain, mix, made, clip, stream=stream))
    teacher: Teacher = Live(AsOutputs(network(99)), plain) if "soft" in loss else NoTeacher()
    return Step(tuple(learners), teacher, Pictures(), torch.arange(40) % 3)


def rows(number: int, streams: int) -> list[Rows]:
    """Of one step: 16 of 40 images, or 5 in every third step."""
    draw = torch.Generator().manual_seed(number)
    size = 5 if number % 3 == 2 else 16
    return [
        Rows(torch.randperm(40, generator=draw)[:size], torch.randint(9, (size,), generator=draw))
        for _ in range(streams)
    ]


@pytest.mark.parametrize("streams", [(0, 1, 2), (0, 0, 0), (1, 0, 1)], ids=["seeds", "same rows", "both"])
@pytest.mark.parametrize(
    ("recipe", "loss", "clip"),
    [(RECIPE, KD, None), (SGD, KD, 0.5), (RECIPE, {"hard": KD["hard"]}, 1.0)],
    ids=["adamw", "sgd", "control"],
)
def test_stacked_learners_end_as_they_would_alone(
    recipe: Any, loss: Any, clip: float | None, streams: tuple[int, ...]
) -> None:
    plainly, together = step(recipe, loss, clip, streams), step(recipe, loss, clip, streams)
    stacked = Stacked(together)
    for number in range(12):
        given = rows(number, max(streams) + 1)
        for one in (plainly, together if number % 5 == 3 else stacked):  # plain steps in between
            one.lr.fill_(0.01 / (number + 1))
            if number % 5 == 0:
                for learner in one.learners:
                    learner.begin(number // 5)
            one(given)
    assert not stacked.refused and len(stacked.traced) == 2
    for alone, other in zip(plainly.learners, stacked.learners, strict=True):
        for key, value in alone.state().items():
            _close(value, other.state()[key], key)


def _close(one: Any, two: Any, key: str) -> None:
    if isinstance(one, dict):
        assert one.keys() == two.keys()
        for name in one:
            _close(one[name], two[name], f"{key}.{name}")
    elif isinstance(one, list):
        for a, b in zip(one, two, strict=True):
            _close(a, b, key)
    else:
        assert torch.allclose(
            one.double(), two.double(), rtol=1e-9, atol=1e-11 if one.dtype == torch.float64 else 1e-5
        ), key


def test_what_draws_random_numbers_is_done_plainly() -> None:
    ends = []
    for wrap in (lambda step: step, Stacked):
        made = step(RECIPE, KD, None, (0, 1))
        for learner in made.learners:
            learner.model.append(nn.Dropout(0.5))
        torch.manual_seed(5)
        stepping = wrap(made)
        stepping(rows(0, 2))
        ends.append([value for learner in made.learners for value in learner.model.state_dict().values()])
    assert "random" in stepping.refused
    assert all(map(torch.equal, *ends))
