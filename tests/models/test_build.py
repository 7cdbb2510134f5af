"""From a description to a model: seeds, sizes, arguments, and errors that name their key."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from kdrun.errors import KdrunError
from kdrun.models.build import build
from kdrun.models.family import FAMILIES, find
from kdrun.models.taps import Tapped, probe
from tests.models.conf import FOLDER, NAMES, node

PARAMETERS = {"cnn_digits": 121_994, "cnn_digits_small": 994, "cnn_tutorial": 122_570}


@pytest.mark.parametrize("name", NAMES)
def test_files_match_signatures(name: str) -> None:
    plain = node(name)
    assert plain["name"] == name
    assert set(plain) == {"name", "family", "args"}
    assert list(plain["args"]) == list(find(plain["family"], "family").arguments)
    description, bar, extra = (FOLDER / f"{name}.yaml").read_text().splitlines()[0].partition(" | ")
    assert description.startswith("# ") and bar and "parameters" in extra


@pytest.mark.parametrize("name", NAMES)
def test_files_say_how_many_parameters(name: str) -> None:
    said = (FOLDER / f"{name}.yaml").read_text().splitlines()[0].partition(" | ")[2]
    found = re.match(r"([\d,.]+) ?(k|M)? parameters(?:.*?(\d+) classes)?", said)
    assert found, said
    number, unit, classes = found.groups()
    sides = {"28x28": (1, 28, 28), "1000 classes": (3, 224, 224), "cnn_digits": (1, 8, 8)}
    shape = next((shape for word, shape in sides.items() if word in f"{name} {said}"), (3, 32, 32))
    known = int(classes or (10 if " on " in said else 100))
    with torch.device("meta"):
        model = build(node(name), known, shape, "auto", seed=0).model
    count = sum(p.numel() for p in model.parameters()) / {"k": 1e3, "M": 1e6, None: 1}[unit]
    digits = len(number.partition(".")[2])
    assert f"{count:,.{digits}f}" == number, count


def test_every_family_has_a_file() -> None:
    assert {node(name)["family"] for name in NAMES} | {"torchvision", "timm"} == set(FAMILIES.names())
    for name in FAMILIES.names():
        parameters = inspect.signature(find(name, "family").build).parameters.values()
        assert all(p.kind is p.KEYWORD_ONLY and p.default is p.empty for p in parameters)


@pytest.mark.parametrize("name", ["cnn_digits", "cnn_digits_small", "cnn_tutorial"])
def test_parameter_counts(name: str) -> None:
    shape = (3, 32, 32) if name == "cnn_tutorial" else (1, 8, 8)
    built = build(node(name), 10, shape, "none", seed=0)
    assert sum(p.numel() for p in built.model.parameters()) == PARAMETERS[name]


def test_mobilenet_v1() -> None:
    with torch.device("meta"):
        built = build(node("mobilenet_v1"), 1000, (3, 224, 224), "none", seed=0)
    assert sum(p.numel() for p in built.model.parameters()) == 4_231_976
    shapes = probe(built.model, (3, 224, 224))
    sizes = [shapes.layer(f"stage:{n}")[:2] for n in range(shapes.stages)]
    assert sizes == [(32, 112), (64, 112), (128, 56), (256, 28), (512, 14), (1024, 7)]
    small = build(node("mobilenet_v1"), 10, (1, 8, 8), "none", seed=0)
    assert small.notes == ("stem for small images (3x3, stride 1, no pooling)",)
    assert probe(small.model, (1, 8, 8)).layer("stage:0@pre") == (32, 8, 8)


@pytest.mark.parametrize("name", NAMES)
def test_own_models_take_digits(name: str) -> None:
    with torch.device("meta"):
        built = build(node(name), 10, (1, 8, 8), "auto", seed=0)
    assert built.image_size == (32 if name.startswith("cnn_tutorial") else 8)
    shapes = probe(built.model, (1, 8, 8))
    assert shapes.layer("logits") == (10,)
    assert len(shapes.layer("embedding")) == 1
    for position in range(shapes.stages):
        assert shapes.layer(f"stage:{position}") == shapes.layer(f"stage:{position}@pre")


@pytest.mark.parametrize("name", ["cnn_digits", "cnn_tutorial", "mlp800"])
def test_networks_follow_the_image_size(name: str) -> None:
    built = build(node(name), 10, (1, 28, 20), "none", seed=0)
    assert built.notes == ()
    said = Tapped(built.model.eval(), ["stages", "embedding", "stage:-1@pre"])(torch.rand(2, 1, 28, 20))
    assert said.logits.shape == (2, 10)
    assert said.embedding is not None and said.embedding.shape == (2, 800 if name == "mlp800" else 64)
    assert torch.equal(said.layer("stage:-1"), said.layer("stage:-1@pre").relu())


def test_dropout_of_mlp() -> None:
    model = build(node("mlp1200"), 10, (1, 28, 28), "none", seed=0).model
    rates = [module.p for module in model.modules() if isinstance(module, nn.Dropout)]
    assert rates == [0.5, 0.5]
    assert sum(p.numel() for p in model.parameters()) == 784 * 1200 + 1200 + 1200 * 1200 + 1200 + 12010


@pytest.mark.parametrize("name", ["resnet20", "cnn_digits", "resnet18", "mobilenet_v1"])
def test_weights_are_a_function_of_the_seed(name: str) -> None:
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = build(node(name), 10, (1, 8, 8), "auto", seed=4).model.state_dict()
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(3)
    second = build(node(name), 10, (1, 8, 8), "auto", seed=4).model.state_dict()
    other = build(node(name), 10, (1, 8, 8), "auto", seed=5).model.state_dict()
    assert all(torch.equal(value, second[key]) for key, value in first.items())
    assert any(not torch.equal(value, other[key]) for key, value in first.items())


def test_enlarging_is_bilinear_and_inside_the_model() -> None:
    built = build(node("cnn_tutorial"), 10, (1, 8, 8), "auto", seed=0)
    direct = build(node("cnn_tutorial"), 10, (1, 32, 32), "none", seed=0)
    assert built.notes == ("images enlarged 8 -> 32 for cnn_tutorial (16 times the pixels)",)
    assert list(built.model.state_dict()) == list(direct.model.state_dict())
    images = torch.rand(2, 1, 8, 8)
    large = nn.functional.interpolate(images, (32, 32), mode="bilinear", antialias=False)
    assert torch.equal(built.model(images), direct.model(large))


def test_images_too_large_are_reduced() -> None:
    with torch.device("meta"):
        built = build(node("vit_b_16"), 10, (3, 256, 256), "auto", seed=0)
    assert built.image_size == 224
    assert built.notes == ("images reduced 256 -> 224 for vit_b_16 (0.766 times the pixels)",)


def test_resize_none_refuses() -> None:
    with pytest.raises(KdrunError) as raised, torch.device("meta"):
        build(node("alexnet"), 10, (3, 32, 32), "none", seed=0)
    message = "dataset.resize=none: alexnet does not take images of 32x32; 64x64 would do"
    assert str(raised.value) == message
    with pytest.raises(KdrunError, match=r"dataset\.resize=always: "):
        build(node("alexnet"), 10, (3, 32, 32), "always", seed=0)


USERS_CNN = """
from torch import nn


def build(*, classes: int, channels: int, width: int = 4) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(channels, width, 3),
        nn.ReLU(inplace=True),
        nn.AvgPool2d(2),
        nn.Conv2d(width, 2 * width, 3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(2 * width * 4, classes),
    )
"""

WRONG: list[tuple[dict[str, Any], str]] = [
    ({"family": "cifar_resnett"}, "student.family=cifar_resnett: no such family of models. Nearest: "),
    ({"family": "build"}, "student.family=build: "),
    ({"family": "mine.models"}, "student.family=mine.models: no such family of models"),
    ({"args": {"depth": 20, "stem_width": 16}}, "student.args.widths: cifar_resnet needs it"),
    ({"args": {"dept": 20}}, "student.args.dept: cifar_resnet has no such argument. Choices: depth, stem"),
    ({"args": {"depth": 21}}, "student.args.depth=21: 6n + 2 is needed"),
    ({"args": {"depth": "20"}}, "student.args.depth=20: a whole number from 1 to 2,000 is needed"),
    ({"args": {"depth": None}}, "student.args.depth=null: a whole number from 1 to 2,000 is needed"),
    ({"args": {"widths": 16}}, "student.args.widths=16: a list of whole numbers from 1 to 65,536 is needed"),
    ({"args": {"classes": 3}}, "student.args.classes: cifar_resnet has no such argument"),
    ({"stem": "cifar"}, "student.stem=cifar: cifar_resnet has one stem only"),
    ({"stem": "small"}, "student.stem=small: no such stem"),
    ({"pretrained": True}, "student.pretrained=true: there are no weights for cifar_resnet"),
]


@pytest.mark.parametrize(("wrong", "message"), WRONG)
def test_errors(wrong: dict[str, Any], message: str) -> None:
    plain = node("resnet20")
    complete = len(wrong.get("args", {})) == 1
    args = {**plain["args"], **wrong["args"]} if complete else wrong.get("args", plain["args"])
    with pytest.raises(KdrunError) as raised:
        build({**plain, **wrong, "args": args, "role": "student"}, 10, (3, 32, 32), "auto", seed=0)
    assert str(raised.value).startswith(message)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("wrn_16_1", {"depth": 18}),
        ("vgg8", {"convs": [1, 1]}),
        ("resnet18_cifar", {"block": "basics"}),
        ("resnet18_cifar", {"blocks": [2, 2]}),
        ("shufflenet_v1", {"blocks": [4, 8]}),
        ("shufflenet_v2", {"widths": [115, 232, 464]}),
        ("shufflenet_v2", {"blocks": [1, 2, 3]}),
        ("cnn_digits", {"strides": [1]}),
        ("cnn_tutorial", {"widths": []}),
        ("mlp", {"widths": []}),
        ("keras_mnist_student", {"widths": [16]}),
        ("shufflenet_v1", {"groups": 7}),
        ("shufflenet_v1", {"widths": [240, 240, 960]}),
        ("mobilenet_v1", {"width": 0.01}),
        ("mobilenetv2_half", {"width": 1e-9}),
        ("mlp", {"dropout": 1.0}),
    ],
)
def test_families_refuse(name: str, args: dict[str, Any]) -> None:
    plain = node(name)
    with pytest.raises(KdrunError) as raised:
        build({**plain, "args": {**plain["args"], **args}}, 10, (3, 32, 32), "auto", seed=0)
    assert raised.value.key == f"model.args.{next(iter(args))}"


def families() -> dict[str, dict[str, Any]]:
    """A shipped model of each family that has arguments."""
    return {each["family"]: each for each in map(node, reversed(NAMES)) if each.get("args")}


def unusable(value: Any) -> Iterator[Any]:
    """Values that an argument with this shipped value cannot have."""
    if isinstance(value, list):
        yield from ([], [0] * len(value), [-1, *value[1:]], [*value[:-1], 10**9], [10**30] * len(value))
        yield from ([*value[:-1], None], [True] * len(value), [value], 5, [1.5] * len(value), {})
    elif isinstance(value, bool):
        yield from (0, "x", None)
    elif isinstance(value, int):
        yield from (-1, 10**9, 10**30, True, 1.5, "4", None)
    elif isinstance(value, float):
        yield from (-math.inf, math.nan, math.inf, 10**400, "x", None)
    else:
        yield from ("", 5, None)


@pytest.mark.parametrize("family", families())
def test_no_argument_reaches_torch_with_a_value_that_it_cannot_have(family: str) -> None:
    plain = families()[family] | {"role": "student"}
    for name, usual in plain["args"].items():
        for value in unusable(usual):
            with pytest.raises(KdrunError) as raised:
                build({**plain, "args": {**plain["args"], name: value}}, 10, (3, 32, 32), "auto", seed=0)
            assert raised.value.key == f"student.args.{name}" and "cannot be built" not in str(raised.value)


def test_weights_beyond_the_free_memory_are_refused_before_they_are_allocated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain = node("mlp") | {"args": {"widths": [20_000, 20_000], "dropout": 0.0}, "role": "student"}
    monkeypatch.setattr("kdrun.models.build.free_memory", lambda: 10**9)
    with pytest.raises(
        KdrunError, match=r"widths=\[20000,20000\]: the weights alone would take 1.85 GB; 1.00 GB are"
    ):
        build(plain, 10, (3, 32, 32), "auto", seed=0)


def test_a_users_family(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "users_package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "empty.py").write_text("")
    (package / "cnn.py").write_text(USERS_CNN)
    monkeypatch.syspath_prepend(tmp_path)
    mine = {"name": "mine", "family": "users_package.cnn", "args": {}}
    shapes = probe(build(mine, 10, (1, 10, 10), "auto", seed=0).model, (1, 10, 10))
    assert shapes.stages == 2
    assert shapes.layer("stage:0") == (4, 8, 8)
    assert shapes.layer("stage:-1") == (8, 2, 2)
    assert shapes.layer("embedding") == (32,)
    with pytest.raises(KdrunError, match=r"model\.name=mine: takes images of no size that was tried"):
        build(mine, 10, (1, 11, 300), "auto", seed=0)
    with pytest.raises(KdrunError, match="the module must have a function build"):
        build({**mine, "family": "users_package.empty"}, 10, (1, 10, 10), "auto", seed=0)
