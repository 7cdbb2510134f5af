"""Each tripwire stops a training by one line that names what is wrong; a sound training passes them all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kdrun.errors import KdrunError
from kdrun.losses.base import Loss, Needs
from kdrun.losses.mix import Mix, Term
from kdrun.models.taps import Tapped
from kdrun.schedule import Schedule
from kdrun.training.optimisers import optimiser
from kdrun.training.step import Learner
from kdrun.training.tripwires import Frozen, Reach, frozen_state
from kdrun.types import Batch, Outputs
from tests.training.world import KD, RECIPE, World, network, plain, same

TEACHING: Schedule = Schedule.parse(1.0, "weight")


class Term_(Loss):
    """A loss from a function of student, teacher and batch."""

    def __init__(self, function: Callable[[Outputs, Outputs, Batch], Tensor], labels: bool = False) -> None:
        super().__init__()
        self.function, self.uses_unlabelled = function, not labels

    @property
    def needs(self) -> Needs:
        return Needs(teacher=frozenset({"logits"}))

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        return self.function(student, teacher, batch)

    def formula(self) -> str:
        return "made for a test"


def sound(student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
    return student.logits.square().mean()


def silent(student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
    return (student.logits * 0.0).mean()


def detached(student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
    return teacher.logits.mean()


def mix(weight: Any = 1.0, **functions: Loss) -> Mix:
    terms = [Term(name, loss, Schedule.parse(weight, "weight")) for name, loss in functions.items()]
    return Mix([Term("hard", Term_(sound), TEACHING), *terms])


def world(folder: Path, given: Mix) -> World:
    """The training of test_fit with another mix."""
    made = World(folder, KD)
    old = made.step.learners[0]
    learner = Learner(old.model, old.tapped, plain, given, optimiser(RECIPE, made.model.parameters()), None)
    made.step.learners, made.checkpoint.learners = (learner,), [learner]
    return made


@pytest.mark.parametrize("function", [silent, detached])
def test_a_term_that_does_not_reach_the_student_stops_the_run(
    tmp_path: Path, function: Callable[..., Tensor]
) -> None:
    message = r"^loss\.idle: its gradient on the student is exactly zero in epoch 1, on every batch"
    with pytest.raises(KdrunError, match=message):
        world(tmp_path, mix(idle=Term_(function))).run()


def test_a_weight_that_rises_from_zero_is_waited_for(tmp_path: Path) -> None:
    rising = {"from": 0.0, "to": 1.0, "epochs": 2, "shape": "linear"}
    with pytest.raises(KdrunError, match=r"^loss\.idle: .* in epoch 2"):
        world(tmp_path, mix(rising, idle=Term_(silent))).run()


def test_one_row_that_teaches_is_enough(tmp_path: Path) -> None:
    def seldom(student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        return student.logits[:1].square().mean() * float(len(batch.labels) == 4)  # the last of an epoch

    world(tmp_path, mix(rare=Term_(seldom))).run()


def test_a_term_without_rows_is_not_blamed(tmp_path: Path) -> None:
    unlabelled = world(tmp_path / "none", mix(labels=Term_(silent, labels=True)))
    unlabelled.step.labels = torch.full((20,), -1)
    unlabelled.run()
    with pytest.raises(KdrunError, match=r"^loss\.labels"):
        world(tmp_path / "some", mix(labels=Term_(silent, labels=True))).run()


def test_a_term_that_claims_no_student_is_not_blamed(tmp_path: Path) -> None:
    loss = Term_(detached)
    loss.reaches_student = False
    world(tmp_path, mix(adapter=loss)).run()


def test_watching_changes_no_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def draws(student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        return (student.logits * torch.rand_like(student.logits)).square().mean()

    looked, steps = Reach.look, []
    monkeypatch.setattr(Reach, "look", lambda *given: (looked(*given), steps.append(given[1])))
    watched = world(tmp_path / "watched", mix(drawn=Term_(draws)))
    ends = watched.run()
    monkeypatch.setattr(Reach, "look", lambda *given: None)
    alone = world(tmp_path / "alone", mix(drawn=Term_(draws)))
    assert same(ends, alone.run()) and steps == [0, 1, 2] * 6
    assert watched.step.teacher.forwards == alone.step.teacher.forwards == 6 * 20


@pytest.mark.parametrize("whose", ["student", "teacher"])
def test_a_term_that_writes_into_what_it_was_given_stops_the_run(tmp_path: Path, whose: str) -> None:
    def writes(student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        (student if whose == "student" else teacher).logits.div_(2.0)
        return student.logits.square().mean()

    with pytest.raises(KdrunError, match=rf"^loss\.rude: it changes logits of the {whose} in place"):
        world(tmp_path, mix(rude=Term_(writes))).run()


def test_a_teacher_that_changes_stops_the_run_after_the_epoch(tmp_path: Path) -> None:
    made, epochs = World(tmp_path, KD), []
    (teacher,) = made.step.teacher.models()

    def validate() -> dict[str, float]:
        epochs.append(len(epochs) + 1)
        if len(epochs) == 2:
            with torch.no_grad():
                teacher.inner[1].running_mean += 1e-3  # type: ignore[index, union-attr, operator]
        return {"top1": 50.0, "nll": 1.0}

    made.validate = validate  # type: ignore[method-assign]
    message = r"^teacher: inner\.1\.running_mean changed while the student was trained"
    with pytest.raises(KdrunError, match=message):
        made.run()
    assert epochs == [1, 2]


def test_a_change_that_leaves_no_trace_is_found_at_the_end() -> None:
    model = network()
    frozen = Frozen(model)
    model[0].weight.data[2, 3] += 1e-3  # type: ignore[index, union-attr, operator]
    frozen.check(closely=False)
    with pytest.raises(KdrunError, match=r"^teacher: 0\.weight changed"):
        frozen.check(closely=True)


def test_writing_the_same_values_is_no_change() -> None:
    model = network()
    frozen, before = Frozen(model), frozen_state(model)
    model.load_state_dict(network().state_dict())
    frozen.check(closely=False)
    assert torch.equal(frozen_state(model), before)


def test_a_mix_that_owns_a_part_of_the_teacher_is_refused(tmp_path: Path) -> None:
    loss = Term_(sound)
    given = mix(thief=loss)
    made = world(tmp_path, given)
    (teacher,) = made.step.teacher.models()
    loss.head = teacher.inner[4]  # type: ignore[index, union-attr]
    with pytest.raises(
        KdrunError, match=r"^loss\.thief: its head\.weight is inner\.4\.weight of the teacher"
    ):
        made.run()


def test_a_student_that_trains_the_teacher_is_refused(tmp_path: Path) -> None:
    made = World(tmp_path, KD)
    (teacher,) = made.step.teacher.models()
    made.step.learners[0].optimiser.parameters.append(teacher.inner[0].weight)  # type: ignore[index, union-attr]
    with pytest.raises(KdrunError, match=r"^teacher: the student trains inner\.0\.weight of the teacher"):
        made.run()


class Rewriting(nn.Module):
    """Overwrites its first layer's output while training, which no look at it in evaluation mode tells."""

    def __init__(self, rewrites: bool = True, calls: bool = True) -> None:
        super().__init__()
        self.stages = ("first",)
        self.first, self.last = nn.Conv2d(1, 2, 1), nn.Conv2d(2, 3, 1)
        self.rewrites, self.calls = rewrites, calls

    def forward(self, images: Tensor) -> Tensor:
        maps = self.first(images) if self.calls or not self.training else images.expand(-1, 2, -1, -1)
        if self.training and self.rewrites:
            maps.mul_(2.0)
        logits: Tensor = self.last(maps).mean((2, 3))
        return logits


def test_a_tapped_tensor_that_is_overwritten_later_stops_the_run() -> None:
    from kdrun.models.taps import probe

    model = Rewriting()
    probe(model, (1, 4, 4))
    tapped = Tapped(model, ["stage:0"], "loss")
    tapped.eval()(torch.ones(2, 1, 4, 4))
    with pytest.raises(KdrunError, match=r"^loss=stage:0: a later layer overwrites this tensor in place"):
        tapped.train()(torch.ones(2, 1, 4, 4))
    with torch.inference_mode():
        tapped.eval()(torch.ones(2, 1, 4, 4))


def test_a_tap_that_never_fires_stops_the_run() -> None:
    tapped = Tapped(Rewriting(rewrites=False, calls=False), ["stage:0"], "loss")
    with pytest.raises(KdrunError, match=r"^loss=stage:0: the model does not call this module"):
        tapped.train()(torch.ones(2, 1, 4, 4))
