"""How hard terms pull: the gradients that a plain backward pass gives, taken beside a training."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from kdrun.losses.cross_entropy import cross_entropy
from kdrun.losses.mix import make_mix
from kdrun.losses.soft_targets import soft_targets
from kdrun.training.mutual import Mutual, Peer
from kdrun.training.optimisers import optimiser
from kdrun.training.pulls import pulls, undisturbed
from kdrun.training.step import Learner, Step
from kdrun.training.teachers import NoTeacher
from kdrun.training.tripwires import Reach, Tripwires
from kdrun.types import Rows
from tests.training.world import KD, RECIPE, AsOutputs, World, images, network, plain

ROWS = Rows(torch.arange(8), torch.arange(8) % 3)


def test_each_pull_is_the_gradient_of_its_term(tmp_path: Path) -> None:
    world = World(tmp_path, KD)
    (learner,) = world.step.learners
    batch, teacher = world.step.given(learner, ROWS)
    with undisturbed(learner, 0):
        hard, soft = pulls(learner, batch, teacher)
        logits, weights = world.model(batch.images), list(world.model.parameters())
        values = cross_entropy(logits, batch.labels), soft_targets(logits, teacher.logits, 2.0)
        expected_gradients = [
            torch.autograd.grad(value.mean(), weights, retain_graph=True) for value in values
        ]
    one, two = (torch.cat([part.flatten() for part in parts]).double() for parts in expected_gradients)
    assert (hard.value.item(), soft.value.item()) == tuple(value.mean().item() for value in values)
    assert hard.norm() == pytest.approx(one.norm().item(), rel=1e-6)
    assert hard.dot(soft) == pytest.approx(torch.dot(one, two).item(), rel=1e-5)


def test_a_weight_that_is_not_reached_has_no_gradient(tmp_path: Path) -> None:
    world = World(tmp_path, KD)
    (learner,) = world.step.learners
    learner.model.register_parameter("unused", torch.nn.Parameter(torch.ones(3)))
    measured = pulls(learner, *world.step.given(learner, ROWS))
    assert all(pull.gradient[0] is None and pull.norm() > 0 for pull in measured)  # the first by name


def looks(world: World, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Epoch and step of each look that the tripwires take in a training."""
    taken, now = [], [0]

    def counted(reach: Reach, done: int, rows: Any) -> None:
        given = reach.step.given

        def noted(*what: Any) -> Any:
            taken.append((now[0], done))
            return given(*what)

        monkeypatch.setattr(reach.step, "given", noted)
        look(reach, done, rows)
        monkeypatch.setattr(reach.step, "given", given)

    look, begin = Reach.look, Tripwires.begin
    monkeypatch.setattr(Reach, "look", counted)
    monkeypatch.setattr(
        Tripwires, "begin", lambda wires, epoch: (now.__setitem__(0, epoch), begin(wires, epoch))
    )
    world.run()
    return taken


def test_looks_are_rare_once_all_terms_pull(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert looks(World(tmp_path, KD), monkeypatch) == [(0, 0), (1, 0), (2, 0), (4, 0)]


def test_a_term_is_looked_at_when_its_weight_leaves_zero(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = KD["soft"] | {"weight": {"from": 0.0, "to": 1.0, "epochs": 3, "shape": "step"}}
    taken = looks(World(tmp_path, {"hard": KD["hard"], "soft": late}), monkeypatch)
    assert taken == [(0, 0), (1, 0), (2, 0), (3, 0), (4, 0)]


def test_a_look_takes_no_images_from_the_steps(tmp_path: Path) -> None:
    class Once:
        """Gives the rows that are announced once, as images do that are read ahead."""

        capturable = False

        def prepare(self, parts: Iterable[Rows]) -> None:
            indexes = [rows.index for rows in parts]
            self.start, size = indexes[0].data_ptr(), indexes[0].element_size()
            self.left = [(index.data_ptr() - self.start) // size for index in indexes]

        def __call__(self, rows: Rows) -> Tensor:
            place, past = divmod(rows.index.data_ptr() - self.start, rows.index.element_size())
            if not past and place in (0, 8, 16):
                assert self.left.pop(0) == place
            return images(rows)

        def close(self) -> None: ...

    world = World(tmp_path, KD)
    world.step.images = Once()
    world.run()
    assert not world.step.images.left


def test_a_peer_is_asked_as_it_is_and_left_so() -> None:
    models = [network(), network()]
    learners = tuple(
        Learner(
            model,
            AsOutputs(model),
            plain,
            make_mix({"hard": KD["hard"]}),
            optimiser(RECIPE, model.parameters()),
            None,
        )
        for model in models
    )
    step = Mutual(Step(learners, NoTeacher(), images, torch.arange(20) % 4))
    state = {name: tensor.clone() for name, tensor in models[1].state_dict().items()}
    for model in models:
        model.train()
    batch, teacher = step.given(learners[0], ROWS)
    assert models[1].training and not teacher.logits.requires_grad
    assert all(torch.equal(tensor, state[name]) for name, tensor in models[1].state_dict().items())
    assert torch.equal(teacher.logits, models[1].eval()(batch.images))
    assert torch.equal(step.given(learners[1], ROWS)[1].logits, Peer(learners[0])(batch).logits)
