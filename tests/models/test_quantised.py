"""Fake quantisation: its arithmetic by hand, its gradients, and the int8 file that computes the same."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdrun.errors import KdrunError
from kdrun.evaluation.accuracy import logits_of
from kdrun.models.exported import opened
from kdrun.models.fake_quantisation import MOVING, Range, fake
from kdrun.models.quantised import NAME, calibrated, layers_of, quantisation, quantised
from kdrun.models.taps import Tapped
from tests.commands.test_export import needs_onnx

SHAPE = (2, 8, 8)

ABOUT = {
    "model": {"name": "tiny", "family": "mlp", "args": {}},
    "stem": "auto",
    "classes": ["a", "b", "c", "d"],
    "image_shape": list(SHAPE),
    "normalisation": {"mean": [0.0, 0.0], "std": [1.0, 1.0]},
}


class Tiny(nn.Module):
    """All that an int8 file has to join: norm, ReLU, shortcut, padding, pooling, dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(2, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)
        self.conv2, self.bn2 = nn.Conv2d(6, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)
        self.pool, self.drop = nn.MaxPool2d(2), nn.Dropout(0.5)
        self.fc = nn.Linear(6 * 16, 4)
        self.stages, self.head = ("pool",), "fc"

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(x + self.bn2(self.conv2(x)))
        out: Tensor = self.fc(self.drop(self.pool(x).flatten(1)))
        return out


def images(count: int = 64, seed: int = 1) -> Tensor:
    return torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def plain() -> nn.Module:
    """A small model with statistics that are not those of a new one."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Tiny()
        for norm in (model.bn1, model.bn2):
            assert norm.running_mean is not None and norm.running_var is not None
            norm.running_mean.normal_(0, 0.2)
            norm.running_var.uniform_(0.5, 2)
    return model.eval()


@pytest.fixture(scope="module")
def small(plain: nn.Module) -> nn.Module:
    return calibrated(quantised(plain, SHAPE, bits=7), images().split(16))


def test_rounding_and_its_gradient_by_hand() -> None:
    x = torch.tensor([-2.0, -0.26, 0.25, 0.3, 0.75, 9.0], requires_grad=True)
    made = fake(x, torch.tensor(0.5), torch.tensor(1.0), 0, 7)
    # x / 0.5 is -4, -0.52, 0.5, 0.6, 1.5, 18; halves go to the even level; levels 0 to 7, around 1
    assert made.tolist() == [-0.5, -0.5, 0.0, 0.5, 1.0, 3.0]
    (made * torch.arange(1.0, 7.0)).sum().backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    assert x.grad.tolist() == [0.0, 2.0, 3.0, 4.0, 5.0, 0.0]


def test_scale_and_zero_point_by_hand() -> None:
    own = Range()
    own.widen(torch.tensor([-1.0, 3.0]))
    scale, zero = own.scale()
    assert scale.item() == pytest.approx(4 / 255) and zero.item() == 64  # 63.75
    own.widen(torch.tensor([0.5]))
    assert (own.low.item(), own.high.item()) == (-1.0, 3.0)
    own.follow(torch.tensor([1.0, 5.0]))  # 0 stays within
    assert own.low.item() == pytest.approx(-1 + MOVING) and own.high.item() == pytest.approx(3 + 2 * MOVING)


def test_a_layer_is_integer_arithmetic() -> None:
    linear = nn.Linear(12, 5)
    model = quantised(nn.Sequential(nn.Flatten(), linear), (3, 2, 2), bits=8)
    calibrated(model, [torch.eye(12).view(12, 3, 2, 2)])
    x = torch.rand(7, 3, 2, 2)
    scale = torch.tensor(1 / 255)
    wide = linear.weight.detach().abs().amax(1) / 127
    levels = torch.round(x.flatten(1) / scale).long()
    weights = torch.round(linear.weight.detach() / wide[:, None]).long()
    bias = torch.round(linear.bias.detach() / (wide * scale)).long()
    by_hand = (levels @ weights.T + bias).float() * (wide * scale)
    torch.testing.assert_close(logits_of(model, [x]), by_hand, rtol=1e-5, atol=1e-6)


def test_it_is_the_model_within_its_levels(plain: nn.Module, small: nn.Module) -> None:
    own, x = quantisation(small), images(seed=2)
    assert own.layers == 3 and len(own.ranges) == 4  # image, first ReLU, second convolution, second ReLU
    right, made = logits_of(plain, [x]), logits_of(small, [x])
    assert 0 < (made - right).abs().max() < 0.05 * right.abs().max()
    assert [number for number, _, _ in layers_of(small, SHAPE)] == [0, 1, 3]
    tapped = Tapped(small, ["stages", "embedding"])
    with torch.no_grad():
        outputs = tapped(x)
    tapped.close()
    assert outputs.stages[0].shape[1:] == (6, 4, 4) and outputs.embedding.shape[1:] == (96,)


def test_training_moves_weights_and_ranges_but_no_statistics(small: nn.Module) -> None:
    model = copy.deepcopy(small).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    x = images(8, seed=3)
    first, second = model(x), model(x)
    first.sum().backward()
    moved = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert f"{NAME}.ranges.0.high" in moved
    assert all(name.startswith(NAME) for name in moved)
    assert not torch.equal(first, second)  # by the ranges: there is no dropout
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())
    model.eval()
    assert torch.equal(model(x), model(x)) and torch.equal(logits_of(model, [x]), model(x).detach())


def test_what_cannot_be_quantised_is_refused() -> None:
    class Writes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(2, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            made = self.conv(x)
            made.add_(made)
            return made.mean((2, 3))  # type: ignore[no-any-return]

    with pytest.raises(KdrunError, match="writes into its tensors"):
        quantised(Writes(), SHAPE, bits=8)
    with pytest.raises(KdrunError, match="no convolution or linear layer"):
        quantised(nn.Sequential(nn.BatchNorm2d(2)), SHAPE, bits=8)


@needs_onnx
def test_the_file_computes_the_same_with_integers(small: nn.Module, tmp_path: Path) -> None:
    from kdrun.models.int8_file import layers_in_integers, write_trained

    path, x = tmp_path / "tiny.onnx", images(256, seed=4)
    write_trained(small, ABOUT, path)
    assert layers_in_integers(path) == quantisation(small).layers
    made, real = logits_of(small, [x]), logits_of(opened(path, 1).model, [x[:1], x[1:]])
    level = torch.stack([each.scale()[0] for each in quantisation(small).ranges]).max()
    apart = (made - real).abs().amax(1)
    # an exact half may round the other way in integers: few images, and one level of one activation
    assert (apart > 1e-5).float().mean() < 0.05 and apart.max() < level

    import onnx

    model = onnx.load(str(path))
    third = [node for node in model.graph.node if node.op_type == "QuantizeLinear"][2].input[1]
    (scale,) = (each for each in model.graph.initializer if each.name == third)
    scale.CopyFrom(onnx.numpy_helper.from_array(1.5 * onnx.numpy_helper.to_array(scale), third))
    onnx.save(model, str(path))
    wrong = (made - logits_of(opened(path, 1).model, [x])).abs().amax(1)
    assert (wrong > 1e-5).float().mean() > 0.5 and wrong.max() > apart.max()
