"""The tutorials' pairs: their networks, their protocols, and an epoch of each."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from kdrun.config.schema import Recipe, Run
from kdrun.errors import KdrunError
from kdrun.models.build import build
from kdrun.models.keras_mnist import same
from kdrun.models.taps import probe
from tests.config.composed import composed
from tests.models.conf import node

PAIRS = {
    "deepnn": ((3, 32, 32), 1_186_986, [(128, 32), (64, 32), (64, 16), (32, 16)], 512),
    "lightnn": ((3, 32, 32), 267_738, [(16, 32), (16, 16)], 256),
    "keras_mnist_teacher": ((1, 28, 28), 1_433_610, [(256, 14), (512, 7)], 25_088),
    "keras_mnist_student": ((1, 28, 28), 20_490, [(16, 14), (32, 7)], 1_568),
}


@pytest.mark.parametrize("name", PAIRS)
def test_the_networks(name: str) -> None:
    shape, parameters, stages, embedding = PAIRS[name]
    built = build(node(name), 10, shape, "none", seed=0)
    assert sum(parameter.numel() for parameter in built.model.parameters()) == parameters
    assert built.notes == ()
    shapes = probe(built.model, shape)
    assert [shapes.layer(f"stage:{n}")[:2] for n in range(shapes.stages)] == stages
    assert shapes.layer("embedding") == (embedding,)


def test_keras_pads_to_the_right_and_below() -> None:
    images = torch.arange(1.0, 17).view(1, 1, 4, 4)
    even = same(images, kernel=3, stride=2)
    assert even.shape == (1, 1, 5, 5)
    assert torch.equal(even[:, :, :4, :4], images) and not even[:, :, 4].any() and not even[..., 4].any()
    assert same(images[:, :, :3, :3], kernel=3, stride=2).shape == (1, 1, 5, 5)  # one on either side
    assert same(images[:, :, :3, :3], kernel=3, stride=2)[0, 0, 1, 1] == 1
    assert same(images, kernel=2, stride=1, value=-9.0)[0, 0, 4, 4] == -9


def test_keras_starts_with_glorots_weights_and_no_biases() -> None:
    model = build(node("keras_mnist_teacher"), 10, (1, 28, 28), "none", seed=0).model
    for layer in (model.conv1, model.conv2, model.classifier):
        fans = sum(layer.weight.shape[:2]) * layer.weight[0, 0].numel()
        limit = (6 / fans) ** 0.5
        assert 0.95 * limit < float(layer.weight.detach().abs().max()) <= limit
        assert not layer.bias.any()


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("deepnn", {"widths": []}),
        ("deepnn", {"pool_every": 3}),
        ("deepnn", {"pool_every": 0}),
        ("deepnn", {"dropout": 1.0}),
        ("keras_mnist_student", {"widths": [1]}),
    ],
)
def test_wrong_arguments(name: str, wrong: dict[str, object]) -> None:
    plain = node(name)
    with pytest.raises(KdrunError) as raised:
        build({**plain, "args": {**plain["args"], **wrong}}, 10, PAIRS[name][0], "none", seed=0)
    assert raised.value.key == f"model.args.{next(iter(wrong))}"


def numbers(recipe: Recipe) -> tuple[object, ...]:
    return recipe.optimiser, recipe.lr, recipe.epochs, recipe.batch, recipe.schedule, recipe.weight_decay


def weights(run: Run) -> dict[str, object]:
    return {name: term["weight"] for name, term in run.loss.items()}


def test_the_protocol_of_pytorchs_tutorial() -> None:
    run = composed("experiment=pytorch_tutorial").run
    assert (run.dataset["name"], run.teacher.name, run.student.name) == ("cifar10", "deepnn", "lightnn")
    assert (
        numbers(run.recipe.teacher) == numbers(run.recipe.student) == ("adam", 1e-3, 10, 128, "constant", 0.0)
    )
    assert weights(run) == {"hard": 0.75, "soft": 0.25} and run.loss["soft"]["temperature"] == 2
    assert run.dataset["mean"] == [0.485, 0.456, 0.406] and run.dataset["std"] == [0.229, 0.224, 0.225]
    assert (run.dataset["views"]["name"], run.dataset["validation"]) == ("none", 0)
    assert (run.seed, run.teacher.seed, run.experiment) == (42, 42, "pytorch_tutorial")
    assert composed("experiment=pytorch_tutorial seed=1 recipe.student.epochs=2").run.seed == 1


def test_the_protocol_of_keras_example() -> None:
    run = composed("experiment=keras_example").run
    assert (run.dataset["name"], run.teacher.name, run.student.name) == (
        "mnist",
        "keras_mnist_teacher",
        "keras_mnist_student",
    )
    assert numbers(run.recipe.teacher) == ("adam", 1e-3, 5, 32, "constant", 0.0)
    assert numbers(run.recipe.student) == ("adam", 1e-3, 3, 32, "constant", 0.0)
    assert weights(run) == {"hard": 0.1, "soft": 0.9} and run.loss["soft"]["temperature"] == 10
    assert (run.dataset["mean"], run.dataset["std"], run.dataset["white"]) == (0.0, 1.0, 255)
    assert (run.dataset["views"]["name"], run.dataset["validation"]) == ("none", 0)


@pytest.mark.parametrize(
    ("experiment", "channels", "size"), [("pytorch_tutorial", 3, 32), ("keras_example", 1, 28)]
)
def test_an_epoch_on_made_up_images(tmp_path: Path, experiment: str, channels: int, size: int) -> None:
    from kdrun.commands.run import run
    from kdrun.report.read import read

    loaded = composed(
        f"experiment={experiment} dataset=fake dataset.per_class=8 dataset.channels={channels} "
        f"dataset.size={size} dataset.validation=0 dataset.test=30 dataset.mean=0.5 dataset.std=0.25 "
        "recipe.teacher.epochs=1 recipe.student.epochs=1 evaluation.latency=false evaluation.plots=false "
        f"control=false threads=1 outputs_dir={tmp_path}"
    )
    report = read(run(loaded.run, [], quiet=True))
    assert report["models"]["student"]["last"]["test"]["n"] == 30
    assert report["models"]["teacher"]["params"] == PAIRS[loaded.run.teacher.name][1]
