"""The loop: resumed equals uninterrupted, bit for bit; alpha 0 is the control; what is broken is named."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from kdrun.errors import KdrunError
from kdrun.losses.base import Loss, Needs
from kdrun.losses.mix import Mix, Term, make_mix
from kdrun.progress.journal import Journal
from kdrun.records import Damaged, read_rows
from kdrun.schedule import Schedule
from kdrun.training.checkpoint import Position, SavePace, read_state
from kdrun.training.fit import Course, fit
from kdrun.training.mutual import Mutual
from kdrun.training.plan import epoch_plan
from kdrun.training.step import Learner, Step
from kdrun.training.teachers import NoTeacher
from kdrun.training.tripwires import Reach, frozen_state
from kdrun.types import Batch, Outputs, Rows
from tests.training.world import HARD, KD, RECIPE, Codes, Killed, World, images, network, plain, same


@pytest.mark.parametrize("loss", [HARD, KD], ids=["hard", "kd"])
@pytest.mark.parametrize("stop_at", [1, 4, 9, 17])
def test_a_broken_off_training_ends_with_the_same_bits(tmp_path: Path, loss: Any, stop_at: int) -> None:
    uninterrupted = World(tmp_path / "whole", loss).run()
    first = World(tmp_path / "parts", loss)
    inner, count = first.step, 0

    class Dying:
        learners, teacher, lr = inner.learners, inner.teacher, inner.lr
        prepare, before, given = inner.prepare, inner.before, inner.given

        def __call__(self, rows: Sequence[Rows]) -> None:
            nonlocal count
            count += 1
            if count == stop_at:
                raise Killed
            inner(rows)

    first.step = Dying()  # type: ignore[assignment]
    with pytest.raises(Killed):
        first.run()
    second = World(tmp_path / "parts", loss)
    assert same(second.run(), uninterrupted)
    rows = [read_rows(tmp_path / name / "metrics.jsonl") for name in ("whole", "parts")]
    assert [r["epoch"] for r in rows[1]] == [1, 2, 3, 4, 5, 6]
    assert [r["terms"] for r in rows[0]] == [r["terms"] for r in rows[1]]


@pytest.mark.parametrize(("stop_at", "position"), [(9, (2, 2)), (7, (1, 3))])
def test_a_state_within_an_epoch_continues_with_the_same_bits(
    tmp_path: Path, stop_at: int, position: tuple[int, int]
) -> None:
    uninterrupted = World(tmp_path / "whole", KD).run()
    first = World(tmp_path / "parts", KD)
    first.checkpoint.pace = SavePace(1e9, 0.0)  # after every step, not after epochs

    class Stops(Journal):
        def steps(self, done: int) -> None:
            if done == stop_at:
                raise Killed

    first.journal = Stops(tmp_path / "parts", "student")
    with pytest.raises(Killed):
        first.run()
    state = read_state(tmp_path / "parts" / "state.pt")
    assert state is not None and tuple(state["position"])[:2] == position
    assert same(World(tmp_path / "parts", KD).run(), uninterrupted)


@pytest.mark.parametrize("labelled", [20, 7])
def test_alpha_zero_is_the_control_bit_for_bit(tmp_path: Path, labelled: int) -> None:
    zero = {"hard": KD["hard"] | {"weight": 1.0}, "soft": KD["soft"] | {"weight": 0.0}}
    student = World(tmp_path / "a", zero, labelled, all_rows=make_mix(zero).uses_unlabelled).run()
    control = World(tmp_path / "b", HARD, labelled, all_rows=False).run()
    assert same(student, control)
    other = World(tmp_path / "c", KD, labelled).run()
    assert not same(other, control)


class Breaks(Loss):
    """A loss that is infinite in one batch, which has this label first."""

    def __init__(self, label: int) -> None:
        super().__init__()
        self.label = label

    @property
    def needs(self) -> Needs:
        return Needs()

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        return student.logits.square().mean(1) / (batch.labels[:1] != self.label)

    def formula(self) -> str:
        return "breaks"


def breaking(folder: Path, step: int) -> World:
    """A training whose second term is infinite in a step of the first two epochs, counted from 1."""
    world = World(folder, KD)
    plan = epoch_plan(0, (step - 1) // 3, world.course.row_set, Codes(), torch.device("cpu"))
    world.step.labels = torch.zeros(20, dtype=torch.int64)
    first = int(plan.between((step - 1) % 3, (step - 1) % 3 + 1).index[0])
    world.step.labels[first] = 3
    old, terms = world.step.learners[0], list(world.step.learners[0].mix.terms)
    terms.insert(1, Term("broken", Breaks(3), Schedule(1.0, 1.0)))
    learner = Learner(old.model, old.tapped, plain, Mix(terms), old.optimiser, None)
    world.step.learners, world.checkpoint.learners = (learner,), [learner]
    return world


@pytest.mark.parametrize(("step", "noticed"), [(1, 1), (2, 2), (3, 3), (4, 4), (5, 6), (6, 6)])
def test_the_term_that_is_not_finite_is_named_soon(
    tmp_path: Path, step: int, noticed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Reach, "look", lambda *given: None)  # it would read the batches too
    world = breaking(tmp_path, step)
    with pytest.raises(KdrunError) as error:
        world.run()
    assert str(error.value).startswith(f"student: loss.broken is not finite by step {noticed}, at a learning")


def test_all_that_break_in_the_same_step_are_named_and_the_state_is_kept(tmp_path: Path) -> None:
    world = World(tmp_path, KD)
    world.course = Course(2, 2, world.course.row_set, Codes(), RECIPE)
    world.run()
    good = (tmp_path / "state.pt").read_bytes()
    broken = World(tmp_path, KD)
    with torch.no_grad():
        position = broken.checkpoint.restore(read_state(tmp_path / "state.pt"))
        next(broken.model.parameters()).fill_(float("nan"))
    message = r"^student: loss\.hard and loss\.soft are not finite by step 8, .*; the last good state is kept"
    with pytest.raises(KdrunError, match=message):
        fit(broken.course, broken.step, [broken.strand()], position)
    assert (tmp_path / "state.pt").read_bytes() == good


def test_a_first_step_that_breaks_promises_no_state(tmp_path: Path) -> None:
    world = World(tmp_path, KD)
    with torch.no_grad():
        next(world.model.parameters()).fill_(float("nan"))
    with pytest.raises(KdrunError) as error:
        world.run()
    assert "by step 1" in str(error.value) and "state" not in str(error.value)


def test_a_peer_that_breaks_is_named(tmp_path: Path) -> None:
    one, other = World(tmp_path / "one"), World(tmp_path / "other")
    learners = (*one.step.learners, *other.step.learners)
    with torch.no_grad():
        next(other.model.parameters()).fill_(float("nan"))
    one.step = Mutual(Step(learners, NoTeacher(), images, one.step.labels))  # type: ignore[assignment]
    with pytest.raises(KdrunError, match=r"^student: its peer's loss\.hard is not finite by step 1"):
        one.run()


def test_the_best_epoch_is_the_earliest_of_equals(tmp_path: Path) -> None:
    world = World(tmp_path)
    accuracies = iter([40.0, 60.0, 60.0, 50.0, 60.0, 10.0])
    world.validate = lambda: {"top1": next(accuracies), "nll": 1.0}  # type: ignore[method-assign]
    last = world.run()
    best = world.checkpoint.best
    assert best is not None and (best.epoch, best.top1) == (2, 60.0)
    assert not same(best.weights, last)


def test_a_damaged_state_is_one_line_and_is_left_as_it_is(tmp_path: Path) -> None:
    World(tmp_path).run()
    path = tmp_path / "state.pt"
    content = path.read_bytes()
    for damaged in (content[: len(content) // 2], b"", b"not a state"):
        path.write_bytes(damaged)
        with pytest.raises(Damaged, match=r"state\.pt: is damaged$"):
            read_state(path)
        assert path.read_bytes() == damaged
    path.unlink()
    path.mkdir()
    with pytest.raises(Damaged, match=r"state\.pt: is damaged$"):
        read_state(path)


def test_nothing_in_a_state_is_executed(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "executed",))

    torch.save({"format": 1, "model": Evil()}, tmp_path / "state.pt")
    with pytest.raises(Damaged, match="is damaged"):
        read_state(tmp_path / "state.pt")
    assert not (tmp_path / "executed").exists()


def test_one_bit_of_a_state_is_seen(tmp_path: Path) -> None:
    World(tmp_path).run()
    path = tmp_path / "state.pt"
    content = path.read_bytes()
    state = read_state(path)
    assert state is not None
    weight = max(state["learners"][0]["model"].values(), key=Tensor.numel).numpy().tobytes()
    for place in (content.index(weight), content.index(weight) + len(weight) - 1):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(Damaged, match="is damaged"):
            read_state(path)
    path.write_bytes(content)
    assert read_state(path) is not None


WRONG: list[Callable[[dict[str, Any]], Any]] = [
    lambda state: state.pop("position"),
    lambda state: state.update(position=(1, 2)),
    lambda state: state.update(position=(1, -2, 0.0)),
    lambda state: state.update(position=(1, 2, float("nan"))),
    lambda state: state.update(learners={}),
    lambda state: state.update(best=(1, 2)),
    lambda state: state.update(facts=None),
    lambda state: state.update(facts={"threads": "2"}),
    lambda state: state.update(format="3"),
]


@pytest.mark.parametrize("change", WRONG)
def test_a_state_with_other_content_is_damaged(
    tmp_path: Path, change: Callable[[dict[str, Any]], Any]
) -> None:
    World(tmp_path).run()
    state = read_state(tmp_path / "state.pt")
    assert state is not None
    change(state)
    torch.save(state, tmp_path / "state.pt")
    with pytest.raises(Damaged, match=r"^.*state\.pt: is damaged: \S"):
        read_state(tmp_path / "state.pt")


def test_states_of_other_versions_and_of_other_trainings_are_named(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.run()
    path = tmp_path / "state.pt"
    state = read_state(path)
    assert state is not None
    torch.save(state | {"format": 2}, path)
    with pytest.raises(KdrunError, match="written by another version of kdrun"):
        read_state(path)
    for other in ({"learners": [{}]}, {"learners": []}, {"learners": [5]}, {"generators": None}):
        with pytest.raises(KdrunError, match=r"state\.pt: is the state of another training; remove it"):
            world.checkpoint.restore(state | other)


def test_an_epoch_whose_state_was_written_at_its_last_step_is_told_once(tmp_path: Path) -> None:
    row = {"stage": "student", "epochs": 3, "lr": 0.1, "loss": 1.0, "terms": {}, "validation": {}}
    row |= {"seconds": 1.0, "images": 20}
    journal = Journal(tmp_path, "student")
    for epoch in (1, 2):
        journal.epoch({"epoch": epoch, **row})
    again = Journal(tmp_path, "student")
    again.begin(3, 5, done=10)  # of the second epoch's last step, or after it
    again.epoch({"epoch": 2, **row, "loss": 0.5})
    again.epoch({"epoch": 3, **row})
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [(json.loads(line)["epoch"], json.loads(line)["loss"]) for line in lines] == [
        *((1, 1.0), (2, 0.5), (3, 1.0))
    ]


def test_half_a_line_of_metrics_is_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    row = {"stage": "student", "epoch": 1, "epochs": 2, "lr": 0.1, "loss": 1.0}
    path.write_text(json.dumps(row) + "\n" + '{"stage": "stud')
    assert read_rows(path) == [row]


def test_a_changed_teacher_is_seen() -> None:
    model = network()
    before = frozen_state(model)
    assert torch.equal(before, frozen_state(model))
    model(torch.randn(5, 6))  # batch statistics move in training mode
    assert not torch.equal(before, frozen_state(model))


def test_position_is_the_beginning_without_a_state(tmp_path: Path) -> None:
    assert World(tmp_path).checkpoint.restore(None) == Position(0, 0, 0.0)
