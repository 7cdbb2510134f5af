"""A student on the teacher's classifier: its parts, its layers, and teachers that cannot lend theirs."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from kdrun.errors import KdrunError
from kdrun.models.build import Built, build
from kdrun.models.reused import Reused, reused, reusing
from kdrun.models.taps import Tapped, classifier, probe
from kdrun.types import POOLED

from .conf import node

SHAPE = (3, 32, 32)


def built(name: str, seed: int = 0) -> Built:
    return build(node(name), 5, SHAPE, "auto", seed)


def on(student: str, teacher: str) -> tuple[nn.Module, nn.Module]:
    taught = built(teacher).model
    return reusing(built(student), taught, SHAPE, 5, 0).model, taught


@pytest.mark.parametrize(
    ("student", "teacher"),
    [("resnet8", "resnet14"), ("shufflenet_v2", "resnet8x4"), ("vgg8", "resnet8"), ("resnet8", "wrn_16_2")],
)
def test_the_last_map_has_the_teachers_channels(student: str, teacher: str) -> None:
    model, taught = on(student, teacher)
    ours, theirs = probe(model, SHAPE, [POOLED]), probe(taught, SHAPE, [POOLED])
    assert ours.layer(POOLED)[0] == theirs.layer(POOLED)[0]
    assert ours.layer(POOLED)[1] <= theirs.layer(POOLED)[1]
    assert ours.layer("stage:-1") == ours.layer(POOLED)
    assert ours.stages == probe(built(student).model, SHAPE).stages
    assert ours.layer("stage:0") == probe(built(student).model, SHAPE).layer("stage:0")
    assert ours.classifier == theirs.classifier


def test_the_classifier_is_the_teachers_and_does_not_learn() -> None:
    model, taught = on("resnet8", "resnet14")
    assert isinstance(model, Reused)
    head = classifier(taught)
    assert head is not None and head.bias is not None
    model.take(head)
    assert torch.equal(model.classifier.weight, head.weight) and torch.equal(model.classifier.bias, head.bias)
    assert model.classifier.weight.data_ptr() != head.weight.data_ptr()
    assert not model.classifier.weight.requires_grad
    said = Tapped(model.eval(), ["stage:-1", "embedding"])(torch.randn(2, *SHAPE))
    expected = nn.functional.linear(said.layer("stage:-1").mean((2, 3)), head.weight, head.bias)
    torch.testing.assert_close(said.logits, expected)


def test_it_is_built_anew_from_sizes_alone() -> None:
    model, taught = on("resnet8", "resnet14")
    size = probe(taught, SHAPE).layer("stage:-1")
    again = reused(built("resnet8", seed=7).model, SHAPE, (size[0], size[1], size[2]), 5, 7)
    again.load_state_dict(model.state_dict())
    images = torch.randn(2, *SHAPE)
    assert torch.equal(again.eval()(images), model.eval()(images))
    first = on("resnet8", "resnet14")[0].state_dict()
    assert all(torch.equal(first[name], tensor) for name, tensor in model.state_dict().items())


def test_a_classifier_on_something_else_is_refused() -> None:
    dense = built("cnn_tutorial").model
    with pytest.raises(KdrunError, match="must be one linear layer on the mean of its last map"):
        reusing(built("resnet8"), dense, SHAPE, 5, 0)
