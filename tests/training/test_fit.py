"""The loop: resumed equals uninterrupted, bit for bit; alpha 0 is the control; what is broken is named."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kdrun.errors import KdrunError
from kdrun.losses.mix import make_mix
from kdrun.progress.journal import Journal, read_metrics
from kdrun.progress.screen import Screen
from kdrun.training.checkpoint import Checkpoint, Pace, Position, read_state
from kdrun.training.fit import Course, Strand, fit
from kdrun.training.optimisers import optimiser
from kdrun.training.plan import RowSet
from kdrun.training.step import Learner, Step
from kdrun.training.teachers import Live, NoTeacher
from kdrun.training.tripwires import frozen_state
from kdrun.types import Outputs, Rows
from tests.training.test_plan import Codes

HARD = {"hard": {"name": "cross_entropy", "weight": 1.0}}
KD = {
    "hard": {"name": "cross_entropy", "weight": 0.1},
    "soft": {"name": "soft_targets", "weight": 0.9, "temperature": 2.0},
}
RECIPE: Any = SimpleNamespace(
    optimiser="adamw", momentum=0.0, nesterov=False, betas=[0.9, 0.999], weight_decay=0.01, lr=0.01,
    schedule="onecycle", milestones=[], gamma=0.1, warmup=0.3, div=25.0, final_div=1e4,
)  # fmt: skip


class Quiet(Screen):
    """Shows nothing."""

    def say(self, text: str = "") -> None: ...

    def show(self, content: Any) -> None: ...

    def begin(self, stage: str, epochs: int, steps: int, done: int) -> None: ...

    def steps(self, done: int) -> None: ...

    def epoch(self, row: Any) -> None: ...

    def end(self) -> None: ...


class Killed(BaseException):
    """Stands for the end of the process; the kills of real processes are in tests/stages."""


def network() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 4))


class Vectors:
    """As images: row i in view v is a vector that depends on both."""

    def prepare(self, rows: Rows, batch: int, first: int) -> None: ...

    def __call__(self, rows: Rows) -> Tensor:
        base = torch.linspace(-1, 1, 6) * (rows.index[:, None] % 5 + 1)
        return torch.cos(base + rows.view[:, None] / 10)

    def close(self) -> None: ...


images = Vectors()


class World:
    """One training of a small network on 20 rows, of which `labelled` carry labels."""

    def __init__(self, folder: Path, loss: Any = HARD, labelled: int = 20, all_rows: bool = True) -> None:
        folder.mkdir(exist_ok=True)
        self.model, mix = network(), make_mix(loss)
        labels = torch.arange(20) % 4
        labels[labelled:] = -1
        told = Live(SaysOutputs(network()), plain) if mix.needs.teacher else NoTeacher()
        learner = Learner(
            self.model,
            lambda x: Outputs(self.model(x)),
            mix,
            optimiser(RECIPE, self.model.parameters()),
            1.0,
        )
        self.step = Step((learner,), told, images, labels, plain)
        self.checkpoint = Checkpoint(folder / "state.pt", [learner], Pace(0.0, 60.0), {"threads": 1})
        rows = torch.arange(20) if all_rows else torch.nonzero(labels >= 0).flatten()
        self.journal = Journal(folder, "student", Quiet(), 20)
        self.course = Course(6, 6, RowSet(rows, 20, 8), Codes(), RECIPE)
        self.path = folder / "state.pt"
        self.diagnose: Callable[[], dict[str, Any]] = dict
        torch.manual_seed(11)

    def validate(self) -> dict[str, float]:
        return {"top1": 50.0, "nll": 1.0}

    def run(self) -> dict[str, Tensor]:
        fit(self.course, self.step, [self.strand()], self.checkpoint.restore(read_state(self.path)))
        return self.model.state_dict()

    def strand(self) -> Strand:
        def validate() -> dict[str, float]:
            return self.validate()

        learners = self.step.learners
        return Strand("student", 0, learners, self.checkpoint, self.journal, validate, self.diagnose)


class SaysOutputs(nn.Module):
    """A plain network that answers as Outputs."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Outputs:
        return Outputs(self.inner(x))


def plain() -> torch.autocast:
    return torch.autocast("cpu", dtype=torch.bfloat16, enabled=False)


def same(one: dict[str, Tensor], two: dict[str, Tensor]) -> bool:
    return all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("loss", [HARD, KD], ids=["hard", "kd"])
@pytest.mark.parametrize("stop_at", [1, 4, 9, 17])
def test_a_broken_off_training_ends_with_the_same_bits(tmp_path: Path, loss: Any, stop_at: int) -> None:
    whole = World(tmp_path / "whole", loss).run()
    first = World(tmp_path / "parts", loss)
    inner, count = first.step, 0

    class Dying:
        learners, teacher, lr, prepare = inner.learners, inner.teacher, inner.lr, inner.prepare

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
    assert same(second.run(), whole)
    rows = [read_metrics(tmp_path / name / "metrics.jsonl") for name in ("whole", "parts")]
    assert [r["epoch"] for r in rows[1]] == [1, 2, 3, 4, 5, 6]
    assert [r["terms"] for r in rows[0]] == [r["terms"] for r in rows[1]]


@pytest.mark.parametrize(("stop_at", "position"), [(9, (2, 2)), (7, (1, 3))])
def test_a_state_within_an_epoch_continues_with_the_same_bits(
    tmp_path: Path, stop_at: int, position: tuple[int, int]
) -> None:
    whole = World(tmp_path / "whole", KD).run()
    first = World(tmp_path / "parts", KD)
    first.checkpoint.pace = Pace(1e9, 0.0)  # after every step, not after epochs

    class Stops(Journal):
        def steps(self, done: int) -> None:
            if done == stop_at:
                raise Killed

    first.journal = Stops(tmp_path / "parts", "student", Quiet(), 20)
    with pytest.raises(Killed):
        first.run()
    state = read_state(tmp_path / "parts" / "state.pt")
    assert state is not None and tuple(state["position"])[:2] == position
    assert same(World(tmp_path / "parts", KD).run(), whole)


@pytest.mark.parametrize("labelled", [20, 7])
def test_alpha_zero_is_the_control_bit_for_bit(tmp_path: Path, labelled: int) -> None:
    zero = {"hard": KD["hard"] | {"weight": 1.0}, "soft": KD["soft"] | {"weight": 0.0}}
    student = World(tmp_path / "a", zero, labelled, all_rows=make_mix(zero).uses_unlabelled).run()
    control = World(tmp_path / "b", HARD, labelled, all_rows=False).run()
    assert same(student, control)
    other = World(tmp_path / "c", KD, labelled).run()
    assert not same(other, control)


def test_a_loss_that_is_not_finite_stops_with_its_name_and_keeps_the_state(tmp_path: Path) -> None:
    world = World(tmp_path, KD)
    world.course = Course(2, 2, world.course.row_set, Codes(), RECIPE)
    world.run()
    good = (tmp_path / "state.pt").read_bytes()
    broken = World(tmp_path, KD)
    with torch.no_grad():
        position = broken.checkpoint.restore(read_state(tmp_path / "state.pt"))
        next(broken.model.parameters()).fill_(float("nan"))
    with pytest.raises(KdrunError, match=r"^loss\.hard: not finite in epoch 3; the last good state is kept"):
        fit(broken.course, broken.step, [broken.strand()], position)
    assert (tmp_path / "state.pt").read_bytes() == good


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
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"not a state"):
        path.write_bytes(damaged)
        with pytest.raises(KdrunError, match="cannot be read"):
            read_state(path)
        assert path.read_bytes() == damaged


def test_nothing_in_a_state_is_executed(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "executed",))

    torch.save({"format": 1, "model": Evil()}, tmp_path / "state.pt")
    with pytest.raises(KdrunError, match="cannot be read"):
        read_state(tmp_path / "state.pt")
    assert not (tmp_path / "executed").exists()


def test_half_a_line_of_metrics_is_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(json.dumps({"stage": "student", "epoch": 1}) + "\n" + '{"stage": "stud')
    assert read_metrics(path) == [{"stage": "student", "epoch": 1}]


def test_a_changed_teacher_is_seen() -> None:
    model = network()
    before = frozen_state(model)
    assert torch.equal(before, frozen_state(model))
    model(torch.randn(5, 6))  # batch statistics move in training mode
    assert not torch.equal(before, frozen_state(model))


def test_position_is_the_beginning_without_a_state(tmp_path: Path) -> None:
    assert World(tmp_path).checkpoint.restore(None) == Position(0, 0, 0.0)
