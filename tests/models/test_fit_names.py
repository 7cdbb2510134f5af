"""Weights under other names, with more in the file than the model has, or of another stem."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kdrun.errors import KdrunError
from kdrun.models.build import build
from kdrun.models.weights import load_into


def model(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))


def below(prefix: str) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in model().state_dict().items()}


def loads(tensors: dict[str, Tensor]) -> None:
    other = model(1)
    load_into(other, tensors, "teacher.checkpoint", "w.pt")
    assert all(torch.equal(tensor, model().state_dict()[n]) for n, tensor in other.state_dict().items())


@pytest.mark.parametrize(
    "prefix",
    ["", "module.", "model.", "net.", "_orig_mod.", "module.student.", "model._orig_mod.module.", "x.y.0."],
)
def test_a_prefix_before_all_names_is_taken_off(prefix: str) -> None:
    loads(below(prefix))
    loads(
        below(prefix) | {"criterion.weight": torch.ones(2), "teacher_head.bias": torch.ones(1)}
    ) if prefix else None


def test_what_training_alone_needs_is_left_out() -> None:
    more = (
        "aux1.fc.weight",
        "AuxLogits.conv0.bn.bias",
        "aux_classifier.1.weight",
        "total_ops",
        "0.total_params",
    )
    loads(below("") | dict.fromkeys(more, torch.ones(1)))
    old = below("module.")
    del old["module.1.num_batches_tracked"]
    loads(old)


def test_two_models_in_one_file_are_not_guessed_between() -> None:
    with pytest.raises(
        KdrunError, match=r"several times: below module\.student\. and below module\.teacher\."
    ):
        loads(below("module.student.") | below("module.teacher."))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (
            lambda s: {f"encoder.{n}": t for n, t in s.items() if n != "0.bias"},
            "names begin with encoder.0.weight",
        ),
        (lambda s: s | {"2.weight": torch.ones(1)}, "2.weight is not in the model"),
        (lambda s: s | {"0.weight": s["0.weight"] * torch.nan}, "0.weight is not finite"),
        (lambda s: s | {"0.weight": s["0.weight"] + 1j}, "0.weight holds complex numbers"),
        (
            lambda s: s | {"0.weight": s["0.weight"].to_sparse()},
            "0.weight is torch.float32, quantised or sparse",
        ),
        (lambda s: s | {"0.weight": s["0.weight"].to(torch.int8)}, "0.weight is torch.int8, quantised"),
    ],
)
def test_what_does_not_fit_is_named(change: Any, problem: str) -> None:
    with pytest.raises(KdrunError) as caught:
        loads(change(model().state_dict()))
    assert str(caught.value).startswith("teacher.checkpoint=w.pt: ") and problem in str(caught.value)


@pytest.mark.parametrize(
    ("stem", "other", "size"), [("cifar", "imagenet", "7x7"), ("imagenet", "cifar", "3x3")]
)
def test_another_stem_is_named_with_the_key_that_fits(stem: str, other: str, size: str) -> None:
    node: dict[str, Any] = {"name": "resnet18", "family": "torchvision", "args": {}, "stem": stem}
    weights = build(node | {"stem": other}, 10, (3, 32, 32), "auto", 0).model.state_dict()
    with pytest.raises(
        KdrunError,
        match=rf"only the first convolution differs, {size} in the file: teacher\.stem={other} fits",
    ):
        load_into(build(node, 10, (3, 32, 32), "auto", 0).model, weights, "teacher.checkpoint", "w.pt")
    load_into(
        build(node | {"stem": other}, 10, (3, 32, 32), "auto", 1).model, weights, "teacher.checkpoint", "w.pt"
    )
