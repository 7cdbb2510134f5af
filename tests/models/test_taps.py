"""Taps: the right tensors, only what was asked for, and no trace of them afterwards."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kdrun.errors import KdrunError
from kdrun.models.build import build
from kdrun.models.taps import Tapped, layer_names, probe
from kdrun.types import POOLED, Outputs
from tests.models.conf import node

SHAPE = (3, 16, 16)


@pytest.fixture
def resnet() -> nn.Module:
    return build(node("resnet8"), 10, SHAPE, "none", seed=1).model


@pytest.fixture
def images() -> Tensor:
    return torch.randn(4, *SHAPE, generator=torch.Generator().manual_seed(0))


def hooks(model: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def test_values_by_hand(resnet: nn.Module, images: Tensor) -> None:
    resnet.eval()
    stem = torch.relu(resnet.bn1(resnet.conv1(images)))
    first = resnet.layer1(stem)
    last = resnet.layer3(resnet.layer2(first))
    block = resnet.layer1[0]
    residual = block.bn2(block.conv2(torch.relu(block.bn1(block.conv1(stem))))) + stem
    said = Tapped(resnet, ["stages", "embedding", "stage:1@pre", "layer1.0.bn1"])(images)
    assert torch.equal(said.layer("stage:0"), stem)
    assert torch.equal(said.layer("stage:1"), first)
    assert torch.equal(said.layer("stage:-1"), last)
    assert torch.equal(said.layer("stage:1@pre"), residual)
    assert torch.equal(said.layer("layer1.0.bn1"), block.bn1(block.conv1(stem)))
    assert torch.equal(said.embedding, last.mean((2, 3)))
    assert torch.equal(said.logits, resnet.fc(said.embedding))


def test_only_what_was_asked_for(resnet: nn.Module, images: Tensor) -> None:
    said = Tapped(resnet, ["logits", "stage:-1", "stage:-2@pre"])(images)
    assert said.embedding is None
    assert [stage is not None for stage in said.stages] == [False, False, False, True]
    assert list(said.layers) == ["stage:-2@pre"]
    with pytest.raises(KeyError):
        said.layer("stage:0")


def test_logits_alone_cost_no_hook(resnet: nn.Module, images: Tensor) -> None:
    said = Tapped(resnet, ["logits"])(images)
    assert hooks(resnet) == 0
    assert said.stages == () and said.embedding is None and not said.layers


def test_negative_names_are_the_same_layers(resnet: nn.Module, images: Tensor) -> None:
    said = Tapped(resnet, ["stages", "stage:3@pre", "stage:-1@pre"])(images)
    assert said.layer("stage:-4") is said.layer("stage:0")
    assert said.layer("stage:-1@pre") is said.layer("stage:3@pre")


def test_close_takes_the_hooks_off(resnet: nn.Module, images: Tensor) -> None:
    tapped = Tapped(resnet, ["stages", "embedding", "stage:-1@pre"])
    assert hooks(resnet) == 6
    tapped.close()
    assert hooks(resnet) == 0


def test_nothing_is_kept_between_forwards(resnet: nn.Module, images: Tensor) -> None:
    tapped = Tapped(resnet, ["stages"])
    tapped(images)
    resnet(images)
    assert tapped._open.kept is None
    with pytest.raises(RuntimeError, match="channels"):
        tapped(images[:, :2])
    assert tapped._open.kept is None


def test_two_taps_on_one_model(resnet: nn.Module, images: Tensor) -> None:
    one, two = Tapped(resnet, ["stage:1"]), Tapped(resnet, ["embedding"])
    assert one(images).embedding is None
    assert two(images).stages == ()


def test_gradients_flow_through_taps(resnet: nn.Module, images: Tensor) -> None:
    said = Tapped(resnet, ["stage:1", "stage:-1@pre"])(images)
    (said.layer("stage:1").sum() + said.layer("stage:-1@pre").sum()).backward()
    assert resnet.conv1.weight.grad.abs().sum() > 0
    assert resnet.fc.weight.grad is None


def test_inference_autocast_and_copies(resnet: nn.Module, images: Tensor) -> None:
    tapped = Tapped(resnet.eval(), ["stage:-1", "embedding"])
    plain = tapped(images)
    with torch.inference_mode():
        assert torch.equal(tapped(images).layer("stage:-1"), plain.layer("stage:-1"))
    with torch.autocast("cpu", torch.bfloat16):
        assert tapped(images).layer("stage:-1").dtype == torch.bfloat16
    twin = copy.deepcopy(tapped)
    nn.init.zeros_(twin.model.layer3[0].bn2.weight)
    assert not torch.equal(twin(images).layer("stage:-1"), plain.layer("stage:-1"))
    assert torch.equal(tapped(images).layer("stage:-1"), plain.layer("stage:-1"))


@pytest.mark.parametrize(("name", "args"), [("resnet8", {})])
def test_compiles_as_one_graph(name: str, args: dict[str, Any], images: Tensor) -> None:
    plain_node = node(name)
    model = build({**plain_node, "args": {**plain_node["args"], **args}}, 10, SHAPE, "none", 1).model.eval()
    tapped = Tapped(model, ["stage:-1", "embedding", "stage:-1@pre"])
    compiled = torch.compile(tapped, backend="aot_eager", fullgraph=True)(images)
    plain = tapped(images)
    for layer in ("logits", "stage:-1", "embedding", "stage:-1@pre"):
        assert torch.allclose(compiled.layer(layer), plain.layer(layer), atol=1e-5)


def test_one_batch_norm_pass_in_training(images: Tensor) -> None:
    tapped, plain = (build(node("wrn_16_1"), 10, SHAPE, "none", seed=1).model for _ in range(2))
    Tapped(tapped, ["stages", *(f"stage:{position}@pre" for position in range(4))])(images)
    plain(images)
    for name, value in plain.state_dict().items():
        assert torch.equal(tapped.state_dict()[name], value), name


def test_probe_changes_nothing(resnet: nn.Module) -> None:
    resnet.bn1.eval()  # frozen on purpose: must stay so, while the rest trains
    before, modes = copy.deepcopy(resnet.state_dict()), [m.training for m in resnet.modules()]
    torch.manual_seed(5)
    state = torch.get_rng_state()
    shapes = probe(resnet, SHAPE, ["stage:-1@pre", "layer2.0.conv1", "layer2.0.relu:in", "stages"])
    assert torch.equal(torch.get_rng_state(), state)
    assert [m.training for m in resnet.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in resnet.state_dict().items())
    assert hooks(resnet) == 0
    assert shapes.stages == 4
    assert shapes.layer("stage:-1@pre") == shapes.layer("stage:3") == (64, 4, 4)
    assert shapes.layer("layer2.0.conv1") == shapes.layer("layer2.0.relu:in") == (32, 8, 8)
    assert set(shapes.layers) == {
        *("logits", "embedding", "layer2.0.conv1", "layer2.0.relu:in"),
        *(f"stage:{n}{suffix}" for n in range(4) for suffix in ("", "@pre")),
    }


UNKNOWN = ["stage:4", "stage:-5", "stage:x", "stage:1@post", "layer4", "", "layer1:out", "embeding"]


@pytest.mark.parametrize("name", UNKNOWN)
def test_unknown_layers(resnet: nn.Module, name: str) -> None:
    for ask in (lambda: Tapped(resnet, [name], "key"), lambda: probe(resnet, SHAPE, [name], "key")):
        with pytest.raises(KdrunError, match=r"no such layer\. Nearest: "):
            ask()


def test_errors_name_the_nearest(resnet: nn.Module) -> None:
    with pytest.raises(KdrunError) as raised:
        Tapped(resnet, ["layer3.0.convv2"], key="loss.hint.student_layer")
    assert str(raised.value).startswith("loss.hint.student_layer=layer3.0.convv2: ")
    assert "layer3.0.conv2" in str(raised.value)
    assert {"stages", "embedding", "stage:0", "layer3.0.conv2"} <= set(layer_names(resnet))


class Careless(nn.Module):
    """A user's model that writes into tensors that a tap may hold, and has a module that it never calls."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(4)
        self.relu = nn.ReLU(inplace=True)
        self.pool = nn.AvgPool2d(2)
        self.conv2 = nn.Conv2d(4, 6, 3, padding=1)
        self.unused = nn.Linear(2, 2)
        self.classifier = nn.Linear(6, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.relu(self.bn1(self.conv1(x))))
        x = self.conv2(x)
        x += 1
        return self.classifier(x.relu_().mean((2, 3)))


@pytest.mark.parametrize("surveyed", [False, True])
def test_overwritten_tensors_are_kept_as_they_were(images: Tensor, surveyed: bool) -> None:
    model = Careless().eval()
    if surveyed:
        probe(model, SHAPE)
    bn1 = model.bn1(model.conv1(images)).detach().clone()
    conv2 = model.conv2(model.pool(bn1.relu())).detach()
    said = Tapped(model, ["bn1", "relu:in", "conv2"])(images)
    assert bn1.min() < 0 and conv2.min() < 0
    assert torch.equal(said.layer("bn1"), bn1)
    assert torch.equal(said.layer("relu:in"), bn1)
    assert torch.equal(said.layer("conv2"), conv2)


def test_stages_of_a_users_model() -> None:
    shapes = probe(Careless(), SHAPE)
    assert shapes.layer("stage:0") == (4, 16, 16)
    assert shapes.layer("stage:-1") == (6, 8, 8)
    assert shapes.layer("embedding") == (6,)
    assert shapes.stages == 2


def test_a_module_that_is_not_called(images: Tensor) -> None:
    with pytest.raises(KdrunError, match="unused: the model does not call this module"):
        Tapped(Careless(), ["unused"])(images)


class Patches(nn.Module):
    """A transformer as tutorials write it: patches by a linear layer, a token of the class before them."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        self.embed = nn.Linear(3 * size * size, 12)
        self.token = nn.Parameter(torch.zeros(1, 1, 12))
        blocks = (nn.TransformerEncoderLayer(12, 2, 8, 0.0, batch_first=True) for _ in range(5))
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(12, 7)

    def forward(self, images: Tensor) -> Tensor:
        patches = nn.functional.unfold(images, self.size, stride=self.size).transpose(1, 2)
        tokens = torch.cat([self.token.expand(len(images), 1, 12), self.embed(patches)], 1)
        logits: Tensor = self.head(self.blocks(tokens)[:, 0])
        return logits


@pytest.mark.parametrize(("size", "shape", "grid"), [(4, SHAPE, (4, 4)), (4, (3, 8, 24), (2, 6))])
def test_stages_of_a_transformer_are_maps_of_its_patches(
    size: int, shape: tuple[int, int, int], grid: tuple[int, int]
) -> None:
    model = Patches(size)
    shapes = probe(model, shape, [POOLED, "blocks.4"])
    assert shapes.stages == 5 and POOLED not in shapes.layers
    assert {shapes.layer(f"stage:{i}") for i in range(5)} == {(12, *grid)}
    images = torch.randn(2, *shape)
    said: Outputs = Tapped(model, ["stage:-1", "blocks.4"])(images)
    patches, (rows, columns) = said.layer("blocks.4")[:, 1:], grid
    assert torch.equal(said.layer("stage:-1")[:, :, 1, 0], patches[:, columns])
    assert torch.equal(said.layer("stage:-1")[:, :, -1, -1], patches[:, rows * columns - 1])


@pytest.mark.parametrize("name", ["resnet8", "wrn_16_1", "shufflenet_v2", "mobilenetv2_half", "vgg8"])
def test_the_map_that_the_classifier_reads_the_mean_of(name: str) -> None:
    model = build(node(name), 10, (3, 32, 32), "none", seed=1).model
    shapes = probe(model, (3, 32, 32), [POOLED])
    said: Outputs = Tapped(model.eval(), [POOLED, "embedding"])(torch.randn(2, 3, 32, 32))
    torch.testing.assert_close(said.layer(POOLED).mean((2, 3)), said.layer("embedding"))
    assert shapes.layer(POOLED)[:1] == shapes.layer("embedding") and min(shapes.layer(POOLED)[1:]) > 1


@pytest.mark.parametrize("name", ["cnn_digits", "cnn_digits_small", "mlp"])
def test_a_classifier_that_reads_something_else(name: str) -> None:
    model = build(node(name), 10, (1, 8, 8), "none", seed=1).model
    assert POOLED not in probe(model, (1, 8, 8), [POOLED]).layers
    assert "embedding" in probe(model, (1, 8, 8), [POOLED]).layers
