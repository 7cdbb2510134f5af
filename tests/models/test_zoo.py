"""Every CIFAR model against counts, shapes and values measured on the implementations that papers used."""

from __future__ import annotations

import copy
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from kdrun.models.build import build
from kdrun.models.family import find
from kdrun.models.taps import Tapped, probe
from tests.models.conf import node

ZOO: dict[str, Any] = yaml.safe_load((Path(__file__).parent / "zoo.yaml").read_text())
SHAPE = (3, 32, 32)

KEYS = {
    "resnet20": ["conv1.weight", "bn1.running_var", "layer2.0.downsample.0.weight", "layer3.2.bn2.bias",
    "fc.bias"], "resnet8x4": ["layer1.0.downsample.1.weight", "fc.weight"], "wrn_40_2": ["conv1.weight",
    "block1.layer.0.convShortcut.weight", "block3.layer.5.bn2.weight", "bn1.bias"], "vgg13_cifar":
    ["block0.0.bias", "block4.3.weight", "block4.4.running_mean", "classifier.weight"], "mobilenetv2_half":
    ["conv1.0.weight", "blocks.0.0.conv.7.bias", "blocks.6.0.conv.6.weight", "conv2.1.bias",
                         "classifier.0.bias"],
    "shufflenet_v1": ["conv1.weight", "layer1.0.conv3.weight", "layer3.3.bn3.weight", "linear.bias"],
    "shufflenet_v2": ["layer1.0.conv5.weight", "layer3.3.bn3.bias", "conv2.weight", "bn2.weight",
    "linear.weight"], "resnet50_cifar": ["layer1.0.shortcut.0.weight", "layer4.2.bn3.weight",
    "linear.weight"], "resnet18_cifar": ["layer2.0.shortcut.1.bias", "layer4.1.conv2.weight",
    "linear.bias"],
}  # fmt: skip


@cache
def outline(name: str, classes: int = 100) -> nn.Module:
    """The network without values."""
    with torch.device("meta"):
        built = build(node(name), classes, SHAPE, "none", seed=0)
    assert built.notes == ()
    assert built.image_size == 32
    return built.model


def bare(name: str, classes: int) -> nn.Module:
    """The network without values, and without a look at what it does with images."""
    plain = node(name)
    with torch.device("meta"):
        network: nn.Module = find(plain["family"], "family").build(
            classes=classes, channels=3, **plain["args"]
        )
    return network


def q(count: int, a: int) -> Tensor:
    """The rule of the fixture: numbers in [-0.5, 0.5) from the position in a tensor alone."""
    k = torch.arange(count)
    return ((31 * k * k + 7919 * k + 17 + a) % 10007).double() / 10007 - 0.5


@torch.no_grad()
def set_by_rule(network: nn.Module) -> None:
    for module in network.double().modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            fan = module.weight[0].numel()
            module.weight.copy_((2 * (3 / fan) ** 0.5 * q(module.weight.numel(), 0)).view_as(module.weight))
            if module.bias is not None:
                module.bias.copy_(0.2 * q(module.bias.numel(), 101))
        elif isinstance(module, nn.BatchNorm2d):
            n = module.num_features
            assert module.running_mean is not None and module.running_var is not None
            module.weight.copy_(1 + 0.4 * q(n, 1))
            module.bias.copy_(0.4 * q(n, 2))
            module.running_mean.copy_(0.2 * q(n, 3))
            module.running_var.copy_(1 + 0.8 * q(n, 4))


def agree(ours: list[float], published: list[float]) -> bool:
    a, b = torch.tensor(ours, dtype=torch.float64), torch.tensor(published, dtype=torch.float64)
    return a.shape == b.shape and bool((a - b).abs().max() <= 1e-9 * b.abs().max())


@pytest.mark.parametrize("name", ZOO)
def test_counts(name: str) -> None:
    network, facts = outline(name), ZOO[name]
    assert sum(p.numel() for p in network.parameters()) == facts["params"]
    assert len(network.state_dict()) == facts["state_dict_keys"]
    assert set(KEYS.get(name, [])) <= set(network.state_dict())
    assert sum(p.numel() for p in bare(name, 10).parameters()) == facts["params_10"]


@pytest.mark.parametrize("name", ZOO)
def test_macs(name: str) -> None:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        outline(name)(torch.zeros(1, *SHAPE, device="meta"))
    assert counter.get_total_flops() == 2 * ZOO[name]["macs"]


@pytest.mark.parametrize("name", ZOO)
def test_shapes(name: str) -> None:
    shapes, facts = probe(outline(name), SHAPE), [tuple(shape) for shape in ZOO[name]["shapes"]]
    stages = [shapes.layer(f"stage:{position}") for position in range(shapes.stages)]
    assert [*stages, shapes.layer("embedding")] == facts
    assert [shapes.layer(f"stage:{position}@pre") for position in range(shapes.stages)] == facts[:-1]
    assert shapes.layer("logits") == (100,)


@pytest.mark.parametrize("name", ZOO)
def test_values(name: str) -> None:
    network, facts = copy.deepcopy(outline(name)).to_empty(device="cpu"), ZOO[name]["probe"]
    set_by_rule(network)
    pre = [f"stage:{position}@pre" for position in range(len(ZOO[name]["shapes"]) - 1)]
    tapped = Tapped(network.eval(), ["stages", "embedding", *pre])
    with torch.no_grad():
        said = tapped((4 * q(3072, 5)).view(1, *SHAPE))
    tapped.close()
    pooled = said.embedding.mean().item()
    assert agree(said.logits[0, :5].tolist(), facts["logits"])
    assert agree([said.logits.sum().item()], [facts["sum"]])
    assert agree([said.logits.norm().item()], [facts["norm"]])
    assert agree([stage.mean().item() for stage in said.stages] + [pooled], facts["means"])
    assert agree([said.layer(layer).mean().item() for layer in pre] + [pooled], facts["pre"])


@pytest.mark.parametrize(
    ("name", "layer", "std"),
    [
        ("resnet8", "conv1", (2 / (9 * 16)) ** 0.5),
        ("wrn_16_2", "block3.layer.1.conv2", (2 / (9 * 128)) ** 0.5),
        ("vgg8", "block4.0", (2 / (9 * 512)) ** 0.5),
        ("vgg8", "classifier", 0.01),
        ("mobilenetv2_half", "blocks.5.1.conv.3", (2 / (9 * 480)) ** 0.5),
        ("mobilenetv2_half", "classifier.0", 0.01),
        ("resnet18_cifar", "layer4.1.conv2", (2 / (9 * 512)) ** 0.5),
        ("shufflenet_v2", "conv2", (1 / 3 / 464) ** 0.5),  # torch's own: uniform up to 1 / sqrt(fan in)
    ],
)
def test_initial_weights(name: str, layer: str, std: float) -> None:
    weight = build(node(name), 100, SHAPE, "none", seed=3).model.get_submodule(layer).weight
    error = 4 / (2 * weight.numel()) ** 0.5
    assert weight.std().item() == pytest.approx(std, rel=error)
    assert weight.mean().abs().item() < 4 * std / weight.numel() ** 0.5


def test_initial_biases() -> None:
    assert not build(node("wrn_16_1"), 10, SHAPE, "none", seed=0).model.fc.bias.any()
    assert not build(node("vgg8"), 10, SHAPE, "none", seed=0).model.block0[0].bias.any()
    assert build(node("resnet8"), 10, SHAPE, "none", seed=0).model.fc.bias.any()


PAIRS = [
    ("resnet56", "resnet20"),
    ("resnet32x4", "resnet8x4"),
    ("wrn_40_2", "vgg8"),
    ("resnet32x4", "shufflenet_v2"),
    ("resnet50_cifar", "mobilenetv2_half"),
]


@pytest.mark.parametrize("pair", PAIRS, ids="->".join)
def test_pairs_give_shapes(pair: tuple[str, str]) -> None:
    for name in pair:
        shapes = probe(outline(name), SHAPE, ["stage:-2", "stage:-1@pre", "embedding"])
        assert len(shapes.layer("stage:-1")) == len(shapes.layer("stage:-2@pre")) == 3
        assert len(shapes.layer("embedding")) == 1
