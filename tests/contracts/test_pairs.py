"""Every method takes every pair of models, nothing typed, or says why not before anything is trained."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import yaml
from torch import Tensor, nn
from torchvision.models import VisionTransformer

from kdrun.config.presets import presets
from kdrun.errors import KdrunError
from kdrun.losses.mix import Mix, make_mix
from kdrun.models.build import Built, build
from kdrun.models.reused import reusing
from kdrun.models.taps import Tapped, probe
from kdrun.plan.suggest import naming_alternatives
from kdrun.types import CLASSIFIER, POOLED, Batch, HeadWeights, Outputs, Rows, Shapes

CONF = Path(__file__).parents[2] / "conf"
METHODS = {preset.name: preset.phases for preset in presets()}
REUSING = "simkd"
"""The method whose student is read by the teacher's classifier."""
COLOUR, DIGITS = (3, 32, 32), (1, 8, 8)
ROWS = 4
IMAGES = 40

UNEQUAL = {"fsp", "kdsvd"}
"""These need stages with equally many channels."""

REFUSED: dict[tuple[str, str], set[str]] = {
    ("resnet56", "resnet20"): set(),
    ("resnet32x4", "resnet8x4"): set(),
    ("wrn_40_2", "vgg8"): UNEQUAL,
    ("resnet32x4", "shufflenet_v2"): UNEQUAL,
    ("resnet50_cifar", "mobilenetv2_half"): UNEQUAL,
    ("small_vit", "resnet20"): UNEQUAL | {"cat_kd", "simkd", "ab", "ofd"},  # no activations
    ("cnn_digits", "cnn_digits_small"): UNEQUAL  # a dense layer; all of the last map; two stages
    | {"cat_kd", "simkd", "fitnet"},
}
WIDE = "resnet50_cifar"
"""Its last map has 2,048 channels, so that some methods take seconds for a step."""
PAIRS = pytest.mark.parametrize(
    "names",
    [
        pytest.param(names, marks=[pytest.mark.long] if WIDE in names else [], id="-".join(names))
        for names in REFUSED
    ],
)


class Side(NamedTuple):
    """A model of a pair. outputs: all that it says of a batch; the student's with the graph behind it."""

    built: Built
    shapes: Shapes
    outputs: Outputs


class Models(NamedTuple):
    """reused: the student on the teacher's classifier, or why there is none."""

    teacher: Side
    student: Side
    reused: Side | KdrunError


@pytest.fixture(autouse=True, scope="module")
def models_are_dropped(one_thread: None) -> Iterator[None]:
    yield
    models.cache_clear()


def small_vit(classes: int) -> nn.Module:
    return VisionTransformer(
        image_size=32,
        patch_size=4,
        num_layers=4,
        num_heads=4,
        hidden_dim=64,
        mlp_dim=128,
        num_classes=classes,
    )


def made(name: str) -> Built:
    if name == "small_vit":
        torch.manual_seed(1)
        model = small_vit(100)
        nn.init.normal_(model.heads.head.weight)  # its own begins at zero, and passes no gradient on
        return Built(model, (), 32)
    node = yaml.safe_load((CONF / "model" / f"{name}.yaml").read_text())
    digits = name.startswith("cnn_digits")
    return build(node, 10 if digits else 100, DIGITS if digits else COLOUR, "none", 0)


def side(built: Built, shape: tuple[int, int, int]) -> Side:
    shapes = probe(built.model, shape, [POOLED])
    images = torch.randn(ROWS, *shape, generator=torch.Generator().manual_seed(2))
    tapped = Tapped(built.model.train(), [*shapes.layers, *_negative(shapes), CLASSIFIER])
    outputs = tapped(images)
    tapped.close()
    return Side(built, shapes, outputs)


def _negative(shapes: Shapes) -> Iterator[str]:
    for position in range(shapes.stages):
        if f"stage:{position}@pre" in shapes.layers:
            yield f"stage:{position - shapes.stages}@pre"


@cache
def models(names: tuple[str, str]) -> Models:
    shape = DIGITS if names[0] == "cnn_digits" else COLOUR
    teacher, student = (made(name) for name in names)
    twin = copy.deepcopy(student)
    with torch.no_grad():
        first = side(teacher, shape)
    sides = first, side(student, shape)
    try:
        reused = reusing(twin, teacher.model, shape, sides[0].outputs.logits.shape[1], 0)
    except KdrunError as error:
        return Models(*sides, error)
    return Models(*sides, side(reused, shape))


def student_for(method: str, pair: Models) -> Side:
    if method != REUSING:
        return pair.student
    if isinstance(pair.reused, KdrunError):
        raise pair.reused
    return pair.reused


def fitted(method: str, pair: Models) -> Iterator[tuple[Mix, Side]]:
    """The mix of each phase, and the student that it is for."""
    for loss in METHODS[method]:
        mix = make_mix(loss)
        mix.advance(1)
        torch.manual_seed(3)
        student = student_for(method, pair)
        mix.build(student.shapes, pair.teacher.shapes, images=IMAGES)
        yield mix, student


def leaves(outputs: Outputs) -> Outputs:
    """The same values with a gradient of their own."""

    def leaf(tensor: Tensor) -> Tensor:
        return tensor.detach().requires_grad_()

    head = outputs.classifier
    return Outputs(
        leaf(outputs.logits),
        None if outputs.embedding is None else leaf(outputs.embedding),
        tuple(None if stage is None else leaf(stage) for stage in outputs.stages),
        {name: leaf(layer) for name, layer in outputs.layers.items()},
        None if head is None else HeadWeights(leaf(head.weight), head.bias),
    )


def tensors(outputs: Outputs) -> list[Tensor]:
    fields = [outputs.logits, outputs.embedding, *outputs.stages, *outputs.layers.values()]
    return [tensor for tensor in fields if tensor is not None]


def batch(outputs: Outputs) -> Batch:
    labels = torch.arange(ROWS) % outputs.logits.shape[1]
    return Batch(torch.zeros(ROWS, 1), labels, Rows(torch.arange(ROWS) * 3, torch.zeros(ROWS).long()))


@PAIRS
@pytest.mark.parametrize("method", METHODS)
def test_a_method_takes_a_pair_or_refuses_it_when_it_is_built(method: str, names: tuple[str, str]) -> None:
    pair = models(names)
    if method in REFUSED[names]:
        with pytest.raises(KdrunError) as caught:
            list(fitted(method, pair))
        if method != "fitnet":  # which names a layer, so that the choices are layers
            assert not caught.value.args[3], "it is the pair that does not fit, not a word that was typed"
        return
    for mix, student in fitted(method, pair):
        ours, theirs = leaves(student.outputs), leaves(pair.teacher.outputs)
        mixture = mix(ours, theirs, batch(ours))
        assert mixture.total.shape == () and mixture.total.isfinite()
        values = zip(mix.terms, mixture.values, strict=True)
        teaching = [value for term, value in values if term.loss.needs.teacher]
        torch.stack(teaching or [mixture.total]).sum().backward()
        gradients = [tensor.grad for tensor in tensors(ours) if tensor.grad is not None]
        reaches = any(term.loss.reaches_student for term in mix.terms)  # a paraphraser learns alone
        assert any(gradient.any() for gradient in gradients) == reaches
        assert all(gradient.isfinite().all() for gradient in gradients)
        assert all(tensor.grad is None for tensor in tensors(theirs))


TAKEN = [
    pytest.param(method, names, id=f"{method}-{'-'.join(names)}")
    for method in ("kd", "at", "feature", "crd", "simkd")
    for names in REFUSED
    if method not in REFUSED[names]
]


@pytest.mark.parametrize(("method", "names"), TAKEN)
def test_it_pulls_at_the_students_first_weights(method: str, names: tuple[str, str]) -> None:
    ((mix, student),) = fitted(method, models(names))
    total = mix(student.outputs, models(names).teacher.outputs, batch(student.outputs)).total
    first = next(student.built.model.parameters())
    (gradient,) = torch.autograd.grad(total, first, retain_graph=True)
    assert gradient.any() and gradient.isfinite().all()


@pytest.mark.parametrize("names", [names for names in REFUSED if REFUSED[names]], ids="-".join)
def test_a_refusal_is_one_line_that_names_methods_that_take_the_pair(names: tuple[str, str]) -> None:
    pair = models(names)
    student, teacher = pair.student.built.model, pair.teacher.built.model
    shape = DIGITS if names[0] == "cnn_digits" else COLOUR
    for method in REFUSED[names] & {"fsp", "simkd"}:
        mix = make_mix(METHODS[method][-1])
        with pytest.raises(KdrunError) as caught, naming_alternatives(mix, student, teacher, shape):
            list(fitted(method, pair))
        text = str(caught.value)
        assert text.startswith("loss") and "\n" not in text and text.count(": ") == 2
        why, would = text.split("; methods that would do: ")
        assert len(why) < 160
        named = would.split(", ")
        assert 3 <= len(named) <= 6 and set(named) <= set(METHODS) - REFUSED[names]


def test_a_word_that_was_typed_wrong_is_answered_with_words() -> None:
    pair = models(("cnn_digits", "cnn_digits_small"))
    loss: dict[str, Any] = {"hint": {"name": "feature", "student_layer": "stage:7"}}
    mix, student, teacher = make_mix(loss), pair.student.built.model, pair.teacher.built.model
    with (
        pytest.raises(KdrunError, match=r"no such layer\. Nearest: stage:0"),
        naming_alternatives(mix, student, teacher, DIGITS),
    ):
        mix.build(pair.student.shapes, pair.teacher.shapes)
