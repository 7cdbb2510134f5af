"""A folded model answers as before, has fewer steps, and is only taken where it does; so with casts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kdrun.models.build import build
from kdrun.models.fold import TOLERANCE, cast_once, folded
from kdrun.models.taps import Tapped
from tests.models.conf import node

SHAPE = (3, 32, 32)

LEFT = {"resnet8": 0, "vgg8": 0, "mobilenetv2_half": 0, "shufflenet_v2": 0, "wrn_16_1": 7}
"""By model, how many norms must stay: those that come before their convolution."""


def made(name: str) -> nn.Module:
    """A shipped model with batch statistics of its own."""
    model = build(node(name), 10, SHAPE, "auto", 0).model
    generator = torch.Generator().manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None and module.running_var is not None
            module.running_mean.normal_(generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
            nn.init.uniform_(module.weight, 0.5, 1.5, generator=generator)
            nn.init.normal_(module.bias, generator=generator)
    return model.eval()


def norms(model: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())


@pytest.mark.parametrize(("name", "left"), LEFT.items())
def test_equal_up_to_rounding_with_all_layers(name: str, left: int) -> None:
    model = made(name).double()
    images = torch.randn(4, *SHAPE, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    state = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    small = folded(model, SHAPE, ["stages", "embedding"])
    assert norms(small) == left < norms(model)
    said = []
    for either in (model, small):
        with torch.no_grad():
            outputs = Tapped(either, {"logits", "embedding", "stages"})(images)
        said.append((outputs.logits, outputs.embedding, *outputs.stages))
    for before, after in zip(*said, strict=True):
        assert before is not None and after is not None
        assert (before - after).abs().max() <= 1e-12 * before.abs().max()
    assert all(torch.equal(state[key], tensor) for key, tensor in model.state_dict().items())


def test_a_norm_that_would_change_a_layer_stays_and_the_others_are_folded() -> None:
    """Of 37 norms 19 follow a convolution. The stem's output, stage 0, is read by one of these alone."""
    model, said = made("wrn_40_2"), list[str]()
    assert norms(folded(model, SHAPE, say=said.append)) == 37 - 19 and not said
    small = folded(model, SHAPE, ["stages"], said.append)
    assert norms(small) == 37 - 18
    assert said == ["teacher  1 of 19 norms stays apart from its convolution: stage:0 would change"]
    images = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        before, after = (Tapped(either, {"stages"})(images).stages for either in (model, small))
    for one, other in zip(before, after, strict=True):
        assert (one - other).abs().max() <= 1e-5 * one.abs().max()


class Between(nn.Module):
    """Each of two layers lies between a convolution and its norm."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)
        self.first, self.second, self.head = nn.BatchNorm2d(4), nn.BatchNorm2d(4), nn.Linear(4, 2)
        self.stages = ("one", "two")
        nn.init.constant_(self.first.weight, 3.0)
        nn.init.constant_(self.second.weight, 3.0)

    def forward(self, images: Tensor) -> Tensor:
        said: Any = self.head(self.second(self.two(self.first(self.one(images)).relu())).mean((2, 3)))
        return said


def test_a_model_of_which_no_norm_can_be_folded_stays_as_it_is() -> None:
    model, said = Between().eval(), list[str]()
    assert norms(folded(model, (3, 8, 8), ["stages"], said.append)) == 2
    assert said == ["teacher  2 of 2 norms stay apart from their convolutions: stage:0, stage:1 would change"]


def test_convolutions_stay_channels_last() -> None:
    small = folded(made("resnet8").to(memory_format=torch.channels_last), SHAPE)  # type: ignore[call-overload]
    weights = [module.weight for module in small.modules() if isinstance(module, nn.Conv2d)]
    assert all(weight.is_contiguous(memory_format=torch.channels_last) for weight in weights)


def rounded(tensor: Tensor) -> Tensor:
    """In ten bits of mantissa, as TF32 reads float32."""
    bits = tensor.detach().float().view(torch.int32)
    return ((bits + 0x0FFF + (bits >> 13 & 1)) & ~0x1FFF).view(torch.float32)


@pytest.fixture
def tf32(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Convolutions on the CPU that round as those of a GPU do where TF32 is allowed."""
    exactly = nn.Conv2d._conv_forward

    def forward(self: nn.Conv2d, images: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if not torch.backends.cudnn.allow_tf32:
            return exactly(self, images, weight, bias)
        return exactly(self, rounded(images), rounded(weight), bias)

    monkeypatch.setattr(nn.Conv2d, "_conv_forward", forward)
    before, torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.allow_tf32, True
    yield
    torch.backends.cudnn.allow_tf32 = before


@pytest.mark.usefixtures("tf32")
@pytest.mark.parametrize("name", ["resnet32x4", "resnet56", "wrn_40_2"])
def test_norms_are_folded_where_convolutions_round_to_tf32(name: str) -> None:
    model, said = made(name), list[str]()
    small = folded(model, SHAPE, say=said.append)
    assert norms(small) < norms(model) / 2 and said == []
    assert torch.backends.cudnn.allow_tf32  # training goes on as the precision says
    images = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(2))
    gap = (small(images) - model(images)).abs().max() / model(images).abs().max()
    assert gap > TOLERANCE  # which would be refused


class Twice(nn.Module):
    """The output of the convolution is also used without the norm: it must not be folded."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2)
        nn.init.constant_(self.norm.weight, 3.0)

    def forward(self, images: Tensor) -> Tensor:
        raw = self.conv(images)
        said: Any = self.head((self.norm(raw) + raw).mean((2, 3)))
        return said


def test_what_would_change_the_answer_is_not_folded_and_the_random_state_stays() -> None:
    torch.manual_seed(0)
    model, images = Twice().eval(), torch.randn(2, 3, 8, 8)
    before = torch.get_rng_state()
    small = folded(model, (3, 8, 8))
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(small(images), model(images)) and norms(small) == 1


def test_cast_once_or_in_each_forward_to_the_same_bits() -> None:
    model, images = folded(made("resnet8"), SHAPE), torch.randn(2, *SHAPE)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        each = model(images)
        once = cast_once(model, torch.bfloat16)(images)
    assert torch.equal(each, once) and each.dtype == torch.bfloat16
    kinds = {type(m): m.weight.dtype for m in model.modules() if isinstance(m, (nn.Conv2d, nn.Linear))}
    assert kinds == {nn.Conv2d: torch.bfloat16, nn.Linear: torch.float32}
