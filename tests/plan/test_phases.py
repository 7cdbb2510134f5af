"""Trainings in two phases, with two momenta, with a peer: what is planned, kept apart, and refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from kdrun.cli import main
from kdrun.errors import KdrunError
from kdrun.losses.mix import make_mix
from kdrun.models.weights import read_weights
from kdrun.plan.objective import students_phases
from kdrun.plan.plan import Plan, make_plan
from kdrun.types import Shapes
from tests.config.composed import composed

KEY = {
    "recipe_version", "data", "views", "normalised", "resize", "model", "recipe", "loss", "seed", "precision",
    "transfer", "teacher",
}  # fmt: skip
"""What the weights of an ordinary student depend on."""


def made(line: str) -> Plan:
    return make_plan(composed(line).run)


@pytest.fixture(scope="module")
def plain() -> Plan:
    return made("method=kd")


def test_the_epochs_of_phase_one_are_epochs_of_the_recipe() -> None:
    run = composed("method=ft").run
    for epochs, of, ends in ((0.125, 80, [10, 80]), (0.125, 2, [1, 2]), (0.9, 1, [1]), (3, 5, [3, 5])):
        run.phase_one.epochs, run.recipe.student.epochs = epochs, of
        phases = students_phases(run, run.recipe.student)
        assert [phase.until for phase in phases] == ends
        assert [phase.first for phase in phases] == [0, *ends[:-1]]


@pytest.mark.parametrize(
    ("line", "more"),
    [
        ("method=dot", {"momentum_delta": 0.075}),
        ("method=ab", {"phase_one": {"epochs": 10, "loss": {"boundaries": {"name": "ab", "weight": 0.003}}}}),
        ("method=dml teacher=cnn_digits_small", {"peer": {"model": {"name": "cnn_digits_small"}}}),
    ],
)
def test_what_is_not_asked_for_is_in_no_fingerprint(plain: Plan, line: str, more: dict[str, Any]) -> None:
    other = made(line)
    assert plain.student.key.keys() == KEY
    assert other.student.key.keys() == (KEY - {"teacher"} if "peer" in more else KEY) | more.keys()
    assert _holds(other.student.key, more)
    assert other.control is not None and plain.control is not None
    assert other.control.fingerprint == plain.control.fingerprint
    assert other.control.phases == plain.control.phases and other.control.momentum_delta is None


def _holds(found: Any, some: Any) -> bool:
    """Whether `found` has all that `some` has, at any depth."""
    if isinstance(some, dict):
        return all(_holds(found[name], value) for name, value in some.items())
    return bool(found == some)


def test_each_phase_has_the_images_that_it_has_a_use_for() -> None:
    plan = made("method=ab")
    first, last = plan.student.mixes
    assert [len(plan.student.row_set(mix).rows) for mix in (first, last)] == [600, 60]
    assert plan.student.row_set(first).steps == plan.student.row_set(last).steps
    assert plan.equation == "0.003 AB(all stages, margin 1) for 10 epochs, then CE"


def test_two_that_are_alike_begin_with_other_weights() -> None:
    plan, other = (made(f"method=dml teacher=cnn_digits_small {more}") for more in ("", "teacher.seed=1"))
    assert plan.student.peer is not None
    weights = [list(each.initial().model.parameters()) for each in (plan.student.peer, plan.student)]
    assert not any(torch.equal(one, two) for one, two in zip(*weights, strict=True) if one.any())
    assert [training.name for training in plan.trainings] == ["student", "control"]
    assert other.student.fingerprint != plan.student.fingerprint


def test_a_first_phase_has_its_own_rate() -> None:
    """The last phase has the recipe's; the rate is in the key only if it is set."""
    plain, other = made("method=ft"), made("method=ft phase_one.lr=0.01")
    recipe = other.student.recipe
    rates = [phase.rates(recipe).lr for phase in other.student.phases]
    assert rates == [0.01, recipe.lr] and recipe.lr != 0.01
    assert [phase.rates(recipe).lr for phase in plain.student.phases] == [recipe.lr, recipe.lr]
    assert other.student.key["phase_one"] == {**plain.student.key["phase_one"], "lr": 0.01}
    assert other.control is not None and plain.control is not None
    assert other.control.fingerprint == plain.control.fingerprint
    assert "at lr 0.01, then" in other.equation and "at lr" not in plain.equation


def test_a_training_learns_at_the_rate_of_its_phase(tmp_path: Path) -> None:
    line = "method=ft phase_one.lr=0.5e-3 phase_one.epochs=1 recipe.student.epochs=2 recipe.teacher.epochs=1"
    more = "recipe.student.schedule=constant evaluation.latency=false evaluation.plots=false control=false"
    assert main([*f"{line} {more}".split(), f"outputs_dir={tmp_path}"]) == 0
    (folder,) = (tmp_path / "runs").iterdir()
    rows = [json.loads(text) for text in (folder / "metrics.jsonl").read_text().splitlines()]
    recipe = made(line).student.recipe
    assert [row["lr"] for row in rows if row["stage"] == "student"] == [0.5e-3, recipe.lr]


@pytest.mark.parametrize("factor", [2, 8])
def test_the_projector_of_a_reused_classifier_has_a_width(factor: int) -> None:
    """2 is the default, and in no key."""
    pair = "method=simkd teacher=resnet14 student=resnet8"
    plan, plain = made(f"{pair} student.projector_factor={factor}"), made(pair)
    model = plan.student.built.model
    assert model.projector[0].out_channels == model.teacher[0] // factor
    assert (plan.student.fingerprint == plain.student.fingerprint) is (factor == 2)


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("method=ab phase_one.epochs=80", r"phase_one.epochs=80: must be a whole number below .*=80, or"),
        ("method=ab phase_one.lr=0", r"phase_one.lr=0.0: must be above 0"),
        ("phase_one.lr=0.1", r"phase_one.lr=0.1: there is no first phase: phase_one.epochs is 0"),
        ("method=simkd student.projector_factor=0", r"student.projector_factor=0: must be"),
        (
            "teacher=resnet18 teacher.pretrained=7",
            r"teacher.pretrained=7: must be true, false or the name of w",
        ),
        (
            "teacher.pretrained=IMAGENET1K_V1",
            r"teacher.pretrained=IMAGENET1K_V1: there are no weights of cnn_",
        ),
        (
            "teacher=resnet18 teacher.pretrained=IMAGENET1K_V7",
            r"teacher.pretrained=IMAGENET1K_V7: there are no such weights. .*true, IMAGENET1K_V1",
        ),
        ("phase_one.epochs=0.5", r"phase_one.epochs=0.5: there is no term in phase_one.loss"),
        ("method=ab phase_one.loss.boundaries.margin=0", r"phase_one.loss.boundaries.margin=0: must be"),
        ("+phase_one.loss.hint.weight=1", r"phase_one.loss.hint=\{weight\}: method kd has no such term"),
        ("momentum_delta=0.1", r"momentum_delta=0.1: must be from 0 to below 0.1: .*betas\[0\] is 0.9"),
        ("method=dot recipe.student.optimiser=sgd", r"momentum_delta=0.075: there is no momentum"),
        ("method=none momentum_delta=0.05", r"momentum_delta=0.05: has no effect"),
        ("method=dml stages=[teacher]", r"stages=\[teacher\]: method dml has no teacher to train before"),
        ("method=dml assistant=cnn_digits", r"assistant=cnn_digits: there is nobody in between two"),
        ("method=dml phase_one.epochs=1 +loss@phase_one.loss.a=dkd", r"phase_one.epochs=1: there is no fi"),
    ],
)
def test_refusals(line: str, error: str) -> None:
    with pytest.raises(KdrunError, match=f"^{error}") as raised:
        made(line)
    assert "\n" not in str(raised.value)


def test_adapters_go_on_where_name_and_shape_agree() -> None:
    def mix(term: str, layer: str = "embedding", width: int = 4) -> Any:
        node = {"name": "feature", "student_layer": layer, "teacher_layer": layer}
        made = make_mix({term: node})
        made.build(Shapes({layer: (3,)}, 0), Shapes({layer: (width,)}, 0))
        return made

    first = mix("hint")
    for later, taken in ((mix("hint"), True), (mix("other"), False), (mix("hint", width=5), False)):
        before = [tensor.clone() for tensor in later.parameters()]
        later.take(first)
        after = list(later.parameters())
        assert all(map(torch.equal, after, first.parameters())) is taken
        assert all(map(torch.equal, after, before)) is not taken


def test_a_first_phase_of_the_same_loss_changes_nothing(tmp_path: Path) -> None:
    """Without momentum there is nothing that a fresh optimiser could forget: rows, views, rates and random
    numbers go on.
    """
    short = [
        "method=none", "recipe.student.epochs=3", "recipe.student.optimiser=sgd", "recipe.student.momentum=0",
        "control=false", "stages=[student]", "threads=1", "dataset=digits", "recipe.student.batch=200",
    ]  # fmt: skip
    two = ["phase_one.epochs=1", "+loss@phase_one.loss.hard=cross_entropy"]
    for name, more in (("one", []), ("two", two)):
        assert main([*short, *more, f"outputs_dir={tmp_path / name}"]) == 0
    one, other = (read_weights(next((tmp_path / n).rglob("last.safetensors"))) for n in ("one", "two"))
    assert all(torch.equal(one[name], other[name]) for name in one)
    marks = [json.loads(next((tmp_path / n).rglob("student.json")).read_text()) for n in ("one", "two")]
    assert [mark["epochs"] for mark in marks] == [3, 3] and marks[0]["fingerprint"] != marks[1]["fingerprint"]
