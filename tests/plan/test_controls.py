"""Controls in a plan: what each learns from, what it shares, how long `longer` is."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from kdrun.config.choices import CONTROLS
from kdrun.errors import KdrunError
from kdrun.losses.soft_targets import soft_targets
from kdrun.plan.controls import CALLS
from kdrun.plan.plan import Plan, make_plan
from kdrun.plan.training import Training
from kdrun.types import Batch, Outputs, Rows
from tests.config.composed import composed

ALL = f"control=[{','.join(CONTROLS)}]"
ROLES = ["control", "control_smoothed", "control_teacher_free", "control_self", "control_longer"]
LABELS = torch.tensor([1, 4, -1, 0])


def made(line: str = "") -> Plan:
    return make_plan(composed(line).run)


def loss_of(training: Training, logits: torch.Tensor, teacher: torch.Tensor | None = None) -> float:
    """What a training minimises, for a batch of four images."""
    (phase,) = training.phases
    mix = training.new_mix(phase).double()
    batch = Batch(torch.zeros(4, 1, 8, 8), LABELS, Rows(torch.arange(4), torch.zeros(4, dtype=torch.int64)))
    return float(mix(Outputs(logits), Outputs(logits if teacher is None else teacher), batch).total)


def drawn(seed: int) -> torch.Tensor:
    return torch.randn(4, 10, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture(scope="module")
def plan() -> Plan:
    return made(ALL)


def test_all_are_the_student_from_its_own_start(plan: Plan) -> None:
    assert [training.name for training in plan.controls] == ROLES
    assert [[t.name for t in one] for one in plan.rounds] == [
        ["teacher"],
        ["student", "control", "control_smoothed", "control_teacher_free", "control_longer"],
        ["control_self"],
    ]
    assert [training.name for training in plan.chain] == ["teacher", "student"]
    start = next(plan.student.initial().model.parameters())
    for training in plan.controls:
        assert training.model == plan.student.model and training.seed == plan.student.seed
        assert torch.equal(next(training.initial().model.parameters()), start)
        assert training.row_set().steps == plan.student.row_set().steps
        assert training.epochs == 80 or training.name == "control_longer"
    assert len({training.fingerprint for training in plan.controls}) == len(CONTROLS)


def test_other_controls_change_no_fingerprint() -> None:
    before = made("control=[plain]")
    every = {
        t.name: t.folder for line in (ALL, "control=true", "control=false") for t in made(line).trainings
    }
    assert before.control is not None and before.control.fingerprint == "d96a5e37dfa6"
    assert {t.name: t.folder for t in before.trainings}.items() <= every.items()
    unused = made("controls.virtual_weight=0.5 controls.smoothing=0.3 controls.longer_epochs=200")
    assert [t.folder for t in unused.trainings] == [t.folder for t in before.trainings]


def test_smoothed_minimises_torchs_label_smoothing(plan: Plan) -> None:
    logits, known = drawn(0), LABELS >= 0
    own = F.cross_entropy(logits[known], LABELS[known], label_smoothing=0.1).item()
    assert loss_of(plan.named("control_smoothed"), logits) == pytest.approx(own, rel=1e-12)
    other = made("control=smoothed controls.smoothing=0.3").named("control_smoothed")
    own = F.cross_entropy(logits[known], LABELS[known], label_smoothing=0.3).item()
    assert loss_of(other, logits) == pytest.approx(own, rel=1e-12)


def test_smoothed_is_the_plain_control_of_a_smoothed_recipe(plan: Plan) -> None:
    same = made("recipe.student.label_smoothing=0.1").control
    assert same is not None and same.folder == plan.named("control_smoothed").folder


def test_teacher_free_minimises_the_mix_with_a_virtual_teacher(plan: Plan) -> None:
    """Yuan et al. 2020: (1 - alpha) CE + alpha T^2 KL, over the images with labels."""
    logits, known, temperature, a = drawn(1), LABELS >= 0, 20.0, 0.99
    p = torch.full((3, 10), (1 - a) / 9, dtype=torch.float64)
    p[range(3), LABELS[known]] = a
    softened = p ** (1 / temperature)
    softened /= softened.sum(1, keepdim=True)
    log_own = (logits[known] / temperature).log_softmax(1)
    divergence = (softened * (softened.log() - log_own)).sum(1).mean()
    expected = 0.9 * F.cross_entropy(logits[known], LABELS[known]) + 0.1 * temperature**2 * divergence
    assert loss_of(plan.named("control_teacher_free"), logits) == pytest.approx(expected.item(), rel=1e-6)


def test_self_is_taught_by_the_plain_control_with_the_students_mix(plan: Plan) -> None:
    own, student = plan.named("control_self"), plan.student
    assert own.teachers == (plan.control,)
    assert own.loss == student.loss and torch.equal(own.rows, student.rows) and len(own.rows) == 600
    assert own.key["teacher"] == {"key": plan.named("control").fingerprint, "weights": "last"}
    assert {k: v for k, v in own.key.items() if k != "teacher"} == {
        k: v for k, v in student.key.items() if k != "teacher"
    }
    logits, teacher, known = drawn(2), drawn(3), LABELS >= 0
    hard = F.cross_entropy(logits[known], LABELS[known])
    expected = 0.1 * hard + 0.9 * soft_targets(logits, teacher, 2.0).mean()
    assert loss_of(own, logits, teacher) == pytest.approx(expected.item(), rel=1e-6)


def test_self_has_one_teacher_where_the_student_has_several() -> None:
    of_two = made("control=self teacher=[cnn_digits,mlp] loss.soft.teacher=mlp +loss@loss.second=ttm")
    assert of_two.named("control_self").teachers == (of_two.control,)


def test_self_is_refused_if_the_students_layers_cannot_teach() -> None:
    hints = "method=fitnet loss.hint.student_layer=stage:1 loss.hint.teacher_layer=stage:2"
    made(hints)
    with pytest.raises(
        KdrunError, match=r"control=self: the student's own architecture cannot take .*stage:2"
    ):
        made(f"{hints} control=self")


def test_longer_costs_what_teacher_and_student_cost(plan: Plan) -> None:
    images, steps = 32, 19
    teacher = 40 * steps * (3 * 969_344 * images + CALLS)
    student = 80 * steps * ((969_344 + 3 * 3_776) * images + CALLS)
    epoch = steps * (3 * 3_776 * images + CALLS)
    assert plan.named("control_longer").epochs == round((teacher + student) / epoch) == 717


def test_longer_does_not_count_the_training_of_a_loaded_teacher(tmp_path: Path, plan: Plan) -> None:
    torch.save(plan.teacher.initial().model.state_dict(), tmp_path / "t.pt")
    loaded = made(f"control=longer teacher.checkpoint={tmp_path / 't.pt'}").named("control_longer")
    student = (969_344 + 3 * 3_776) * 32 + CALLS
    assert loaded.epochs == round(80 * student / (3 * 3_776 * 32 + CALLS))


def test_longer_is_as_long_as_asked_and_counts_every_model_of_a_chain() -> None:
    assert made("control=longer controls.longer_epochs=200").named("control_longer").epochs == 200
    chain = made("control=longer assistant=cnn_digits_medium").named("control_longer").epochs
    assert chain > 717
    alone = made("control=longer method=none").named("control_longer").epochs
    assert math.isclose(alone, 80 + 40 * (3 * 969_344 * 32 + CALLS) / (3 * 3_776 * 32 + CALLS), abs_tol=0.5)
