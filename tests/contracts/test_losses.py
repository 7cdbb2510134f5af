"""What holds for every loss in conf/loss and every preset in conf/method, also for one added tomorrow."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

from kdrun.errors import KdrunError
from kdrun.losses.base import Loss
from kdrun.losses.lookup import arguments_of, find
from kdrun.losses.mix import make_mix
from kdrun.schedule import Schedule
from kdrun.types import POOLED, Batch, Classifier, Outputs, Rows, Shapes

CONF = Path(__file__).parents[2] / "conf"
LOSSES = sorted(path.stem for path in (CONF / "loss").glob("*.yaml"))
METHODS = sorted(path.stem for path in (CONF / "method").glob("*.yaml"))
DRAWS = {"crd", "mgd"}
"""Losses that draw for each row, so that another order of the batch means other draws."""

IMAGES = 40
STUDENT = ((4, 8, 8), (4, 8, 8), (6, 4, 4), (8, 2, 2))
TEACHER = ((6, 8, 8), (6, 8, 8), (8, 4, 4), (12, 2, 2))


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Tensors here are tiny, and threads that wait for one another would take most of the time."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def node(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((CONF / "loss" / f"{name}.yaml").read_text())
    return loaded


def shapes(maps: tuple[tuple[int, ...], ...], classes: int) -> Shapes:
    layers = {"logits": (classes,), "embedding": (maps[-1][0],)}
    layers |= {f"stage:{i}{at}": size for at in ("", "@pre") for i, size in enumerate(maps)}
    layers[POOLED] = maps[-1]
    return Shapes(layers, len(maps), (classes, maps[-1][0]))


def made(name: str, classes: int = 7, seed: int = 0) -> tuple[Loss, Shapes, Shapes]:
    """The loss with its defaults, built for a student and a larger teacher, or for equal models."""
    mix = make_mix({"term": node(name) | {"weight": 1.0}})
    mix.advance(10)
    loss = mix.terms[0].loss
    student, teacher = shapes(STUDENT, classes), shapes(TEACHER, classes)
    torch.manual_seed(seed)
    try:
        loss.build(student, teacher, IMAGES)
    except KdrunError as error:
        assert "\n" not in str(error)
        loss.build(student, student, IMAGES)
        teacher = student
    return loss, student, teacher


def said(what: Shapes, rows: int, seed: int, dtype: torch.dtype = torch.float64) -> Outputs:
    generator = torch.Generator().manual_seed(seed)

    def draw(name: str) -> Tensor:
        values = torch.randn(rows, *what.layer(name), generator=generator, dtype=torch.float64)
        return (values.relu() if name.startswith("stage") and "@" not in name else values).to(dtype)

    stages = tuple(draw(f"stage:{i}") for i in range(what.stages))
    pre = {f"stage:{i}@pre": draw(f"stage:{i}@pre") for i in range(-what.stages, what.stages)}
    embedding = stages[-1].mean((2, 3))  # as in models whose head reads the mean of the last map
    assert what.classifier is not None
    weight = torch.randn(*what.classifier, generator=generator, dtype=torch.float64).to(dtype)
    return Outputs(draw("logits"), embedding, stages, pre | {POOLED: stages[-1].clone()}, Classifier(weight))


def batch(rows: int, classes: int = 7, labelled: bool = True) -> Batch:
    labels = torch.arange(rows) % classes if labelled else torch.full((rows,), -1)
    where = torch.arange(rows) * 3 + 1
    return Batch(torch.zeros(rows, 3, 8, 8), labels, Rows(where, torch.zeros_like(where)))


def leaves(outputs: Outputs) -> list[Tensor]:
    assert outputs.embedding is not None
    assert outputs.classifier is not None
    found = [outputs.logits, outputs.embedding, *outputs.layers.values(), outputs.classifier.weight]
    return [*found, *(stage for stage in outputs.stages if stage is not None)]


def value(loss: Loss, student: Outputs, teacher: Outputs, given: Batch) -> Tensor:
    """The loss on a copy, so that neither its state nor the draws before count."""
    torch.manual_seed(11)
    result: Tensor = copy.deepcopy(loss)(student, teacher, given)
    return result


def permuted(outputs: Outputs, order: Tensor) -> Outputs:
    return Outputs(
        outputs.logits[order],
        None if outputs.embedding is None else outputs.embedding[order],
        tuple(None if stage is None else stage[order] for stage in outputs.stages),
        {name: layer[order] for name, layer in outputs.layers.items()},
        outputs.classifier,
    )


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
    student, teacher, given = said(student_shapes, 6, 1, dtype), said(teacher_shapes, 6, 2, dtype), batch(6)
    read = [*leaves(student), *leaves(teacher), given.labels]
    before = [tensor.clone() for tensor in read]
    for tensor in read[:-1]:
        tensor.requires_grad_()
    result = loss(student, teacher, given)
    assert result.shape == ()
    assert result.dtype == torch.float32
    assert result.isfinite()
    result.backward()
    gradients = [tensor.grad for tensor in leaves(student) if tensor.grad is not None]
    assert any(gradient.any() for gradient in gradients)
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert all(tensor.grad is None for tensor in leaves(teacher))
    assert all(torch.equal(tensor, old) for tensor, old in zip(read, before, strict=True))


@pytest.mark.parametrize("name", LOSSES)
def test_every_adapter_learns(name: str) -> None:
    loss, student_shapes, teacher_shapes = made(name)
    student, teacher = said(student_shapes, 6, 1, torch.float32), said(teacher_shapes, 6, 2, torch.float32)
    if not list(loss.parameters()):
        return
    loss(student, teacher, batch(6)).backward()
    assert all(p.grad is not None for p in loss.parameters() if p.requires_grad)


@pytest.mark.parametrize("name", sorted(set(LOSSES) - DRAWS))
def test_the_order_of_the_batch_does_not_matter(name: str) -> None:
    loss, student_shapes, teacher_shapes = made(name)
    loss.double()
    student, teacher, given = said(student_shapes, 6, 1), said(teacher_shapes, 6, 2), batch(6)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    assert given.rows is not None
    rows = Rows(given.rows.index[order], given.rows.view[order])
    other = Batch(given.images[order], given.labels[order], rows)
    expected = value(loss, student, teacher, given)
    torch.testing.assert_close(
        value(loss, permuted(student, order), permuted(teacher, order), other), expected
    )


@pytest.mark.parametrize(("rows", "classes"), [(1, 7), (6, 2), (1, 2)])
@pytest.mark.parametrize("name", LOSSES)
def test_a_batch_of_one_and_two_classes(name: str, rows: int, classes: int) -> None:
    loss, student_shapes, teacher_shapes = made(name, classes)
    student = said(student_shapes, rows, 1, torch.float32)
    for tensor in leaves(student):
        tensor.requires_grad_()
    result = loss(student, said(teacher_shapes, rows, 2, torch.float32), batch(rows, classes))
    assert result.isfinite()
    if result.requires_grad:
        result.backward()
    assert all(tensor.grad.isfinite().all() for tensor in leaves(student) if tensor.grad is not None)


@pytest.mark.parametrize("scale", [0.0, 1e3])
@pytest.mark.parametrize("name", LOSSES)
def test_extremes_are_finite(name: str, scale: float) -> None:
    loss, student_shapes, teacher_shapes = made(name)
    student, teacher = said(student_shapes, 6, 1, torch.float32), said(teacher_shapes, 6, 2, torch.float32)
    for tensor in leaves(student):
        tensor.mul_(scale).requires_grad_()
    result = loss(student, teacher, batch(6))
    assert result.isfinite()
    result.backward()
    assert all(tensor.grad.isfinite().all() for tensor in leaves(student) if tensor.grad is not None)


@pytest.mark.parametrize("name", LOSSES)
def test_rows_without_a_label(name: str) -> None:
    loss, student_shapes, teacher_shapes = made(name)
    loss.double()
    student, teacher = said(student_shapes, 6, 1), said(teacher_shapes, 6, 2)
    for tensor in leaves(student):
        tensor.requires_grad_()
    none = value(loss, student, teacher, batch(6, labelled=False))
    assert none.isfinite()
    if loss.uses_unlabelled:
        none.backward()
        assert any(tensor.grad is not None and tensor.grad.any() for tensor in leaves(student))
        return
    assert none.item() == 0
    kept = torch.tensor([0, 2, 3])
    some = batch(6)
    some.labels[[1, 4, 5]] = -1
    sliced = Batch(some.images[kept], some.labels[kept])
    whole = value(loss, student, teacher, some)
    torch.testing.assert_close(whole, value(loss, permuted(student, kept), permuted(teacher, kept), sliced))


@pytest.mark.parametrize("name", LOSSES)
def test_state_goes_there_and_back(name: str) -> None:
    first, student_shapes, teacher_shapes = made(name, seed=1)
    second, _, _ = made(name, seed=2)
    student, teacher = said(student_shapes, 6, 1, torch.float32), said(teacher_shapes, 6, 2, torch.float32)
    first(student, teacher, batch(6))
    second.load_state_dict(first.state_dict())
    values = []
    for loss in (first, second):
        torch.manual_seed(11)
        values.append(loss(student, teacher, batch(6)))
    assert torch.equal(*values)
    states = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    assert all(torch.equal(there, here) for there, here in states)


@pytest.mark.parametrize("name", LOSSES)
def test_compiles_as_one_graph(name: str) -> None:
    loss, student_shapes, teacher_shapes = made(name)
    student, teacher = said(student_shapes, 6, 1, torch.float32), said(teacher_shapes, 6, 2, torch.float32)
    torch.compiler.reset()
    compiled = torch.compile(copy.deepcopy(loss), backend="aot_eager", fullgraph=True)
    expected = value(loss, student, teacher, batch(6))
    torch.manual_seed(11)
    torch.testing.assert_close(compiled(student, teacher, batch(6)), expected)


@pytest.mark.parametrize("name", METHODS)
def test_presets(name: str) -> None:
    text = (CONF / "method" / f"{name}.yaml").read_text()
    text = text.replace("${oc.select:dataset.temperature,4.0}", "4.0")  # where the data set has no hint
    lines, preset = text.splitlines(), yaml.safe_load(text)
    assert lines[0] == "# @package _global_"  # Hydra reads it nowhere but at the top
    assert lines[1].startswith("# ")
    assert " | " in lines[1]
    assert preset["method"] == name
    assert preset["defaults"][0] != "_self_"  # or the preset's own weights would be lost
    for shared in ("temperature", "alpha"):
        assert (shared in preset) == (f"${{{shared}}}" in text), f"{shared} is set and used, or neither"
    mixes: dict[str, dict[str, Any]] = {}
    for entry in preset["defaults"]:
        ((group, loss),) = entry.items()
        place, _, term = group.removeprefix("/loss@").rpartition(".")
        mixes.setdefault(place, {})[term] = node(loss)
    assert set(mixes) == {"loss"} | ({"phase_one.loss"} if "phase_one" in preset else set())
    for place, terms in mixes.items():
        own = preset.get("phase_one", {}) if place == "phase_one.loss" else preset
        for term, settings in own.get("loss", {}).items():
            assert set(settings) <= set(terms[term])
            terms[term] |= {key: _resolved(given, preset) for key, given in settings.items()}
        assert make_mix(terms).names == tuple(terms)


def _resolved(given: Any, preset: dict[str, Any]) -> Any:
    if not isinstance(given, str) or "${" not in given:
        return given
    if given == "${complement:${alpha}}":
        return 1 - preset["alpha"]
    return preset[given.removeprefix("${").removesuffix("}")]
