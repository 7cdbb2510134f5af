from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from kdrun.errors import KdrunError
from kdrun.losses.base import Loss, Needs
from kdrun.losses.lookup import find
from kdrun.losses.mix import Mix, Term, make_mix
from kdrun.schedule import Schedule
from kdrun.types import Batch, Outputs, Shapes

from .golden_cases import case, matches

KD = {
    "hard": {"name": "cross_entropy", "weight": 0.1},
    "soft": {"name": "soft_targets", "weight": 0.9, "temperature": 2.0},
}
RAMP = {"from": 0.0, "to": 1.0, "epochs": 20, "shape": "linear"}


def some(rows: int = 4) -> tuple[Outputs, Outputs, Batch]:
    generator = torch.Generator().manual_seed(6)
    student, teacher = torch.randn(2, rows, 5, generator=generator)
    batch = Batch(torch.zeros(rows, 1, 2, 2), torch.arange(rows) % 5)
    return Outputs(student), Outputs(teacher), batch


@pytest.mark.parametrize(("name", "temperature", "weight"), [("b8c10_mix", 4.0, 0.9), ("hand_mix", 1.0, 0.5)])
def test_golden(name: str, temperature: float, weight: float) -> None:
    tensors = case("kd", name)
    node = {
        "hard": {"name": "cross_entropy", "weight": 1 - weight},
        "soft": {"name": "soft_targets", "weight": weight, "temperature": temperature},
    }
    mix = make_mix(node)
    mix.weights = torch.tensor([1 - weight, weight], dtype=torch.float64)
    batch = Batch(tensors["student.logits"], tensors["target"])
    mixture = mix(Outputs(tensors["student.logits"]), Outputs(tensors["teacher.logits"]), batch)
    matches(tensors, mixture.total)


def test_total_and_parts() -> None:
    mix = make_mix(KD)
    student, teacher, batch = some()
    student.logits.requires_grad_()
    mixture = mix(student, teacher, batch)
    assert mix.names == ("hard", "soft")
    assert mixture.parts.shape == (2,)
    assert not mixture.parts.requires_grad
    torch.testing.assert_close(mixture.total, 0.1 * mixture.parts[0] + 0.9 * mixture.parts[1])
    mixture.total.backward()
    assert student.logits.grad is not None


def test_equation() -> None:
    assert make_mix(KD).equation() == "0.1 CE + 0.9 2^2 KL(teacher || student, T=2)"
    node = {"hard": {"name": "cross_entropy"}, "dkd": {"name": "dkd", "weight": RAMP}}
    assert make_mix(node).equation() == "CE + (0 -> 1 in 20 epochs) DKD(alpha 1, beta 8, T=4)"


def test_schedules_refill_tensors_in_place() -> None:
    node = {"soft": {**KD["soft"], "weight": RAMP, "temperature": {"from": 8, "to": 2, "epochs": 10}}}
    mix = make_mix(node)
    weights, temperature = mix.weights, mix.losses["soft"].get_buffer("temperature")
    assert (weights.item(), temperature.item()) == (0.0, 8.0)
    mix.advance(5)
    assert (weights.item(), temperature.item()) == (0.25, 5.0)
    mix.advance(100)
    assert (weights.item(), temperature.item()) == (1.0, 2.0)
    assert "temperature 8 -> 2 in 10 epochs" in mix.equation()


def test_weights_are_not_state_but_adapters_are() -> None:
    node = {**KD, "hint": {"name": "feature", "student_layer": "embedding", "teacher_layer": "embedding"}}
    mix = make_mix(node)
    mix.build(Shapes({"embedding": (3,)}, 0), Shapes({"embedding": (4,)}, 0))
    assert {name for name, _ in mix.named_parameters()} == set(mix.state_dict())
    assert {p.shape for p in mix.parameters()} == {(4, 3), (4,)}


def test_a_term_of_weight_zero_is_dropped() -> None:
    alone = {"hard": {"name": "cross_entropy", "weight": 1.0}}
    with_zero = {
        **alone,
        "soft": {**KD["soft"], "weight": 0.0},
        "x": {**KD["soft"], "weight": {**RAMP, "to": 0}},
    }
    mix = make_mix(with_zero)
    given = some()
    assert mix.names == ("hard",)
    assert not mix.uses_unlabelled
    assert not mix.needs.teacher
    assert torch.equal(mix(*given).total, make_mix(alone)(*given).total)


def test_needs_are_united() -> None:
    node = {**KD, "hint": {"name": "feature", "student_layer": "stage:1", "teacher_layer": "stage:-1"}}
    assert make_mix(node).needs == Needs(frozenset({"logits", "stage:1"}), frozenset({"logits", "stage:-1"}))
    assert make_mix(KD).uses_unlabelled


def test_low_precision_is_computed_in_float32() -> None:
    student, teacher, batch = some()
    mix = make_mix(KD)
    low = mix(Outputs(student.logits.bfloat16()), Outputs(teacher.logits.bfloat16()), batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        same = mix(Outputs(student.logits.bfloat16()), Outputs(teacher.logits.bfloat16()), batch)
    assert low.total.dtype == torch.float32
    assert torch.equal(low.total, same.total)


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ({}, "loss: there is no term"),
        ({"hard": {**KD["hard"], "weight": 0}}, "loss: every term has weight 0"),
        ({"train": KD["hard"]}, "loss.train: a term cannot have this name"),
        ({"dkd": {"beta": 2.5}}, "loss.dkd: this term has no name"),
        (
            {"soft": {**KD["soft"], "name": "soft_target"}},
            "loss.soft.name=soft_target: no such loss. Nearest: soft_targets",
        ),
        (
            {"soft": {**KD["soft"], "name": "mix"}},
            "loss.soft.name=mix: the module must have one public Loss",
        ),
        ({"soft": {**KD["soft"], "name": "no.such"}}, "loss.soft.name=no.such: no such loss"),
        (
            {"soft": {"name": "soft_targets", "temprature": 2}},
            "loss.soft.temprature: SoftTargets has no such argument. Choices: temperature",
        ),
        ({"soft": {**KD["soft"], "temperature": 0}}, "loss.soft.temperature=0: must be above 0"),
        ({"soft": {**KD["soft"], "temperature": "hot"}}, "loss.soft.temperature=hot: a number is needed"),
        ({"soft": {**KD["soft"], "temperature": None}}, "loss.soft.temperature=null: a number is needed"),
        ({"soft": {**KD["soft"], "weight": "abc"}}, "loss.soft.weight=abc: a number"),
        (
            {"hard": {**KD["hard"], "label_smoothing": RAMP}},
            "loss.hard.label_smoothing: CrossEntropy takes no schedule",
        ),
    ],
)
def test_errors(node: dict[str, dict[str, object]], message: str) -> None:
    with pytest.raises(KdrunError) as error:
        make_mix(node)
    assert str(error.value).startswith(message)


def test_a_pair_that_does_not_fit_is_named() -> None:
    mix = make_mix({"hint": {"name": "feature", "student_layer": "stage:9"}})
    with pytest.raises(
        KdrunError, match=r"^loss\.hint\.student_layer=stage:9: the student has no such layer"
    ):
        mix.build(Shapes({"logits": (5,)}, 0), Shapes({"logits": (5,)}, 0))


def test_a_users_own_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = """
from kdrun.losses.base import Loss, Needs
Numbers = list[float]  # which is a class to Python 3.10
class Mine(Loss):
    def __init__(self, factor: float = 1.0):
        super().__init__()
        self.factor = factor
    @property
    def needs(self):
        return Needs()
    def forward(self, student, teacher, batch):
        return self.factor * student.logits.mean()
    def formula(self):
        return "mine"
"""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "flat.py").write_text(source)
    mix = make_mix({"own": {"name": "mine.flat", "factor": 2}})
    student, teacher, batch = some()
    total: Tensor = mix(student, teacher, batch).total
    torch.testing.assert_close(total, 2 * student.logits.mean())


class Returns(Loss):
    """What a test wants to be returned."""

    def __init__(self, value: Tensor, labels: bool = False) -> None:
        super().__init__()
        self.value, self.uses_unlabelled = value, not labels

    @property
    def needs(self) -> Needs:
        return Needs()

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        return self.value

    def formula(self) -> str:
        return "made for a test"


def parts(*losses: Loss, labels: Sequence[int] = (0, -1, 2, -1)) -> list[float]:
    student, teacher, batch = some()
    terms = [Term(f"term{n}", loss, Schedule(1.0, 1.0)) for n, loss in enumerate(losses)]
    found: list[float] = Mix(terms)(
        student, teacher, Batch(batch.images, torch.tensor(labels))
    ).parts.tolist()
    return found


def test_the_mix_takes_the_means() -> None:
    values = torch.tensor([1.0, 9.0, 4.0, -9.0])
    labelled, every = Returns(values, labels=True), Returns(values[[0, 2, 0, 0]])
    assert parts(labelled, every, Returns(torch.tensor(7.0))) == [2.5, 1.75, 7.0]
    assert parts(Returns(values, labels=True), labels=[-1] * 4) == [0.0]


def test_only_the_rows_that_count_have_a_gradient() -> None:
    values = torch.tensor([1.0, 2.0, 5.0, 3.0], requires_grad=True)
    student, teacher, batch = some()
    mix = Mix([Term("term", Returns(values, labels=True), Schedule(1.0, 1.0))])
    mix(student, teacher, Batch(batch.images, torch.tensor([0, 1, -1, 1]))).total.backward()
    assert values.grad is not None
    torch.testing.assert_close(values.grad, torch.tensor([1.0, 1.0, 0.0, 1.0]) / 3)


@pytest.mark.parametrize("shape", [(4, 1), (3,), (4, 5), (1,)])
def test_a_loss_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(KdrunError, match=r"^loss\.term0: its forward must return a value for each of the 4"):
        parts(Returns(torch.zeros(shape)))


def test_what_a_users_loss_lacks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "half_made.py").write_text(
        "from kdrun.losses.base import Loss\n"
        "class Half(Loss):\n"
        "    def needs(self): ...\n"
        "    def forward(self, student, teacher, batch): ...\n"
    )
    (tmp_path / "half").mkdir()
    (tmp_path / "half_made.py").rename(tmp_path / "half" / "made.py")
    with pytest.raises(KdrunError) as error:
        find("half.made", "loss.own.name")
    assert (
        str(error.value)
        == "loss.own.name=half.made: Half lacks formula; a loss needs formula, forward, needs"
    )
