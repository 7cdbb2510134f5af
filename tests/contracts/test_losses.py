"""What holds for every loss in conf/loss and every preset in conf/method, also for one added tomorrow."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from kdrun.config.files import terms_of
from kdrun.losses.lookup import arguments_of, find
from kdrun.losses.mix import make_mix
from kdrun.schedule import Schedule
from kdrun.types import Batch
from tests.contracts.losses import (
    CONF,
    LOSSES,
    batch,
    both,
    leaves,
    made,
    node,
    outputs,
    returned,
    taken,
    taken_batch,
    value,
)
from tests.sampled import sampled

METHODS = sorted(path.stem for path in (CONF / "method").glob("*.yaml"))
DRAWS = {"crd", "mgd"}
"""Losses that draw for each row, so that another order of the batch means other draws."""


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("name", LOSSES)
def test_keys_are_the_signature(name: str) -> None:
    loaded = node(name)
    assert list(loaded)[:2] == ["name", "weight"]
    Schedule.parse(loaded["weight"], "weight")
    assert list(loaded)[2:] == list(arguments_of(find(loaded["name"], "name")))
    first = (CONF / "loss" / f"{name}.yaml").read_text().splitlines()[0]
    assert first.startswith("# ")
    assert " | " in first


def test_every_loss_has_its_tests() -> None:
    tests = {path.stem for path in (Path(__file__).parents[1] / "losses").glob("test_*.py")}
    assert {f"test_{node(name)['name']}" for name in LOSSES} <= tests


@pytest.mark.parametrize("name", LOSSES)
def test_has_a_formula_on_one_line(name: str) -> None:
    loss, _, _ = made(name)
    assert 0 < len(loss.formula()) <= 60
    assert "\n" not in loss.formula()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", LOSSES)
def test_finite_and_only_the_student_learns(name: str, dtype: torch.dtype) -> None:
    loss, student_shapes, teacher_shapes = made(name)
    student, teacher = both(student_shapes, teacher_shapes, dtype)
    given = batch(6)
    read = [*leaves(student), *leaves(teacher), given.labels]
    before = [tensor.clone() for tensor in read]
    for tensor in read[:-1]:
        tensor.requires_grad_()
    result = loss(student, teacher, given)
    assert result.dtype == torch.float32
    assert result.isfinite().all()
    result.sum().backward()
    gradients = [tensor.grad for tensor in leaves(student) if tensor.grad is not None]
    assert any(gradient.any() for gradient in gradients)
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert all(tensor.grad is None for tensor in leaves(teacher))
    assert all(torch.equal(tensor, old) for tensor, old in zip(read, before, strict=True))


@pytest.mark.parametrize("name", [name for name in LOSSES if list(made(name)[0].parameters())])
def test_every_adapter_learns(name: str) -> None:
    loss, student_shapes, teacher_shapes = made(name)
    student = outputs(student_shapes, 6, 1, torch.float32)
    loss(student, outputs(teacher_shapes, 6, 2, torch.float32), batch(6)).sum().backward()
    assert all(p.grad is not None for p in loss.parameters() if p.requires_grad)


@pytest.mark.parametrize("rows", [6, 1])
@pytest.mark.parametrize("name", LOSSES)
def test_returns_a_value_for_each_image_or_one_for_the_batch(name: str, rows: int) -> None:
    loss, student, teacher = made(name)
    result = returned(loss.double(), outputs(student, rows, 1), outputs(teacher, rows, 2), batch(rows))
    assert result.shape == (rows,) or (loss.of_the_batch and result.shape == ())


@pytest.mark.parametrize("name", sorted(set(LOSSES) - DRAWS))
def test_another_order_of_the_batch_gives_the_same_values_in_that_order(name: str) -> None:
    loss, student_shapes, teacher_shapes = made(name)
    loss.double()
    (student, teacher), given = both(student_shapes, teacher_shapes), batch(6)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    expected = returned(loss, student, teacher, given)
    other = returned(loss, taken(student, order), taken(teacher, order), taken_batch(given, order))
    torch.testing.assert_close(other, expected[order] if expected.dim() else expected)
    assert not expected.dim() or len(set(expected.tolist())) > 1


@pytest.mark.parametrize("name", sorted(set(LOSSES) - DRAWS))
def test_every_image_twice_leaves_the_mean_as_it_is(name: str) -> None:
    loss, student_shapes, teacher_shapes = made(name)
    if loss.of_the_batch:
        return
    loss.double()
    (student, teacher), given = both(student_shapes, teacher_shapes), batch(6)
    given.labels[4] = -1
    twice = torch.tensor([0, 0, 1, 2, 3, 4, 5, 5, 4, 3, 2, 1])
    doubled = value(loss, taken(student, twice), taken(teacher, twice), taken_batch(given, twice))
    torch.testing.assert_close(doubled, value(loss, student, teacher, given))


@pytest.mark.parametrize(("rows", "classes"), [(1, 7), (6, 2), (1, 2)])
@pytest.mark.parametrize("name", LOSSES)
def test_a_batch_of_one_and_two_classes(name: str, rows: int, classes: int) -> None:
    loss, student_shapes, teacher_shapes = made(name, classes)
    student = outputs(student_shapes, rows, 1, torch.float32)
    for tensor in leaves(student):
        tensor.requires_grad_()
    result = value(loss, student, outputs(teacher_shapes, rows, 2, torch.float32), batch(rows, classes))
    assert result.isfinite()
    if result.requires_grad:
        result.backward()
    assert all(tensor.grad.isfinite().all() for tensor in leaves(student) if tensor.grad is not None)


@pytest.mark.parametrize("scale", [0.0, 1e3])
@pytest.mark.parametrize("name", LOSSES)
def test_extremes_are_finite(name: str, scale: float) -> None:
    loss, student_shapes, teacher_shapes = made(name)
    student, teacher = both(student_shapes, teacher_shapes, torch.float32)
    for tensor in leaves(student):
        tensor.mul_(scale).requires_grad_()
    result = value(loss, student, teacher, batch(6))
    assert result.isfinite()
    result.backward()
    assert all(tensor.grad.isfinite().all() for tensor in leaves(student) if tensor.grad is not None)


@pytest.mark.parametrize("name", LOSSES)
def test_rows_without_a_label(name: str) -> None:
    loss, student_shapes, teacher_shapes = made(name)
    loss.double()
    student, teacher = both(student_shapes, teacher_shapes)
    for tensor in leaves(student):
        tensor.requires_grad_()
    assert returned(loss, student, teacher, batch(6, labelled=False)).isfinite().all()
    none = value(loss, student, teacher, batch(6, labelled=False))
    if loss.uses_unlabelled:
        none.backward()
        assert any(tensor.grad is not None and tensor.grad.any() for tensor in leaves(student))
        return
    assert none.item() == 0
    kept = torch.tensor([0, 2, 3])
    some = batch(6)
    some.labels[[1, 4, 5]] = -1
    sliced = Batch(some.images[kept], some.labels[kept])
    masked = value(loss, student, teacher, some)
    torch.testing.assert_close(masked, value(loss, taken(student, kept), taken(teacher, kept), sliced))


@pytest.mark.parametrize("name", LOSSES)
def test_state_goes_there_and_back(name: str) -> None:
    first, student_shapes, teacher_shapes = made(name, seed=1)
    second, _, _ = made(name, seed=2)
    student, teacher = both(student_shapes, teacher_shapes, torch.float32)
    first(student, teacher, batch(6))
    second.load_state_dict(first.state_dict())
    values = []
    for loss in (first, second):
        torch.manual_seed(11)
        values.append(loss(student, teacher, batch(6)))
    assert torch.equal(*values)
    states = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    assert all(torch.equal(there, here) for there, here in states)


@pytest.mark.parametrize("name", sampled(LOSSES, 4))
def test_compiles_as_one_graph(name: str) -> None:
    loss, student_shapes, teacher_shapes = made(name)
    student, teacher = both(student_shapes, teacher_shapes, torch.float32)
    torch.compiler.reset()
    compiled = torch.compile(copy.deepcopy(loss), backend="eager", fullgraph=True)
    expected = returned(loss, student, teacher, batch(6))
    torch.manual_seed(11)
    torch.testing.assert_close(compiled(student, teacher, batch(6)), expected)


@pytest.mark.parametrize("name", METHODS)
def test_presets(name: str) -> None:
    text = (CONF / "method" / f"{name}.yaml").read_text()
    text = re.sub(r"\$\{oc\.select:[\w.]+,([^}]*)\}", r"\1", text)  # a data set that says nothing
    lines, preset = text.splitlines(), yaml.safe_load(text)
    assert lines[0] == "# @package _global_"  # Hydra reads it nowhere but at the top
    assert lines[1].startswith("# ")
    assert " | " in lines[1]
    assert preset["method"] == name
    assert preset["defaults"][0] != "_self_"  # or the preset's own weights would be lost
    for shared in ("temperature", "alpha"):
        assert (shared in preset) == (f"${{{shared}}}" in text), f"{shared} is set and used, or neither"
    mixes: dict[str, dict[str, Any]] = {}
    for key, term, loss in terms_of(CONF / "method" / f"{name}.yaml"):
        mixes.setdefault(key, {})[term] = node(loss)
    assert sum(map(len, mixes.values())) == len(preset["defaults"])
    assert set(mixes) == {"loss"} | ({"phase_one.loss"} if "phase_one" in preset else set())
    for place, terms in mixes.items():
        own = preset.get("phase_one", {}) if place == "phase_one.loss" else preset
        for term, settings in own.get("loss", {}).items():
            assert set(settings) <= set(terms[term])
            terms[term] |= {key: _resolved(given, preset) for key, given in settings.items()}
        assert make_mix(terms).names == tuple(terms)


@pytest.mark.parametrize("name", ["dkd", "dkd_std"])
def test_published_warm_ups_count_epochs_from_one(name: str) -> None:
    weight = yaml.safe_load((CONF / "method" / f"{name}.yaml").read_text())["loss"]["dkd"]["weight"]
    schedule = Schedule.parse(weight, "weight")
    published = [schedule.end * min((epoch + 1) / 20, 1.0) for epoch in range(30)]
    assert [schedule.at(epoch) for epoch in range(30)] == pytest.approx(published)


def test_fitnet_reads_index_two_of_the_feature_lists() -> None:
    assert {node("fitnet")[f"{model}_layer"] for model in ("student", "teacher")} == {"stage:2"}


def _resolved(given: Any, preset: dict[str, Any]) -> Any:
    if not isinstance(given, str) or "${" not in given:
        return given
    if given == "${complement:${alpha}}":
        return 1 - preset["alpha"]
    return preset[given.removeprefix("${").removesuffix("}")]
