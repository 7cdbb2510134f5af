from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import VisionTransformer

from kdrun.evaluation.cost import _formulas, bytes_per_image, cost, figures, macs, params, state_bytes
from tests.evaluation.subjects import subject


def convolutional() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1, groups=4),
        nn.Dropout(0.5),
        nn.Flatten(),
        nn.Linear(8 * 4 * 4, 10),
    )


def test_cost_by_hand() -> None:
    counts = cost(convolutional(), (3, 8, 8))
    assert counts["macs"] == 16 * 8 * 27 + 16 * 8 * 2 * 9 + 1280
    assert counts["params"] == 216 + 16 + (8 * 2 * 9 + 8) + 1290
    # Beside the parameters: running mean and variance, and one int64 counter.
    assert counts["bytes"] == 4 * (counts["params"] + 16) + 8


class Tokens(nn.Module):
    """Reads an image (1, T, D) as T tokens of width D."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, images: Tensor) -> Tensor:
        attended = self.inner(images.flatten(1, 2))
        out: Tensor = attended if isinstance(attended, Tensor) else attended[0]
        return out


class Attention(nn.Module):
    """Of four heads, each token by each."""

    def forward(self, tokens: Tensor) -> Tensor:
        heads = tokens.unflatten(2, (4, -1)).transpose(1, 2)
        return F.scaled_dot_product_attention(heads, heads, heads).transpose(1, 2).flatten(2)


class WithWeights(nn.Module):
    """Attention that also returns how much each token attends to each."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(32, 4, batch_first=True)

    def forward(self, tokens: Tensor) -> Tensor:
        out: Tensor = self.attention(tokens, tokens, tokens, need_weights=True)[0]
        return out


PROJECTIONS, ATTENTION, FEED_FORWARD = 4 * 16 * 32 * 32, 2 * 16 * 16 * 32, 2 * 16 * 32 * 64
ENCODER = partial(nn.TransformerEncoderLayer, 32, 4, dim_feedforward=64, batch_first=True)


@pytest.mark.parametrize(
    ("make", "by_hand"),
    [
        (Attention, ATTENTION),
        (WithWeights, PROJECTIONS + ATTENTION),
        (ENCODER, PROJECTIONS + ATTENTION + FEED_FORWARD),
    ],
    ids=["attention", "with weights", "encoder layer"],
)
def test_attention_by_hand(make: Callable[[], nn.Module], by_hand: int) -> None:
    """Torch fuses attention and whole encoder layers into operations that it has no formula for."""
    enabled = torch.backends.mha.get_fastpath_enabled()
    assert macs(Tokens(make()), (1, 16, 32)) == by_hand
    assert torch.backends.mha.get_fastpath_enabled() == enabled


def test_vision_transformer_by_hand() -> None:
    model = VisionTransformer(
        image_size=8, patch_size=2, num_layers=3, num_heads=4, hidden_dim=32, mlp_dim=64, num_classes=10
    )
    tokens = 4 * 4 + 1
    layer = 4 * tokens * 32 * 32 + 2 * tokens * tokens * 32 + 2 * tokens * 32 * 64
    assert macs(model, (3, 8, 8)) == 4 * 4 * 32 * 3 * 2 * 2 + 3 * layer + 32 * 10


@pytest.mark.parametrize(
    ("kind", "gates"), [(nn.LSTM, 4), (nn.GRU, 3), (nn.RNN, 1)], ids=["lstm", "gru", "rnn"]
)
def test_recurrent_layers_by_hand(kind: Callable[..., nn.Module], gates: int) -> None:
    """Torch fuses some of them into operations that it has no formula for."""
    model = Tokens(kind(32, 8, num_layers=2, bidirectional=True, batch_first=True))
    assert macs(model, (1, 16, 32)) == 2 * 16 * gates * 8 * ((32 + 8) + (2 * 8 + 8))


def test_attention_and_recurrent_layers_of_other_devices() -> None:
    """Those of Apple's and NVIDIA's GPUs are operations of their own; called with the shapes alone."""
    formulas, aten = _formulas(), torch.ops.aten
    heads, tokens = torch.empty(1, 4, 16, 8), torch.empty(16, 1, 32)
    attention = formulas[aten._scaled_dot_product_attention_math_for_mps]
    assert attention(heads, heads, heads, out_val=(heads, heads)) == 2 * ATTENTION
    weights = list(nn.LSTM(32, 8).parameters())
    recurrent = formulas[aten._cudnn_rnn]
    assert recurrent(tokens, weights, 4, None, tokens, out_val=(tokens,)) == 2 * 16 * 4 * 8 * (32 + 8)


def test_shared_weights_count_once() -> None:
    shared = nn.Linear(6, 6)
    model = nn.Sequential(nn.Flatten(), shared, shared)
    assert params(model) == 42
    assert state_bytes(model) == 168
    assert macs(model, (1, 2, 3)) == 72


def test_model_and_random_state_stay_as_they_are() -> None:
    class Drawing(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images + torch.rand(1)

    model = nn.Sequential(convolutional(), Drawing())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    cost(model, (3, 8, 8))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(module.training for module in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_model_without_tensors_costs_nothing() -> None:
    assert cost(nn.Flatten(), (1, 2, 2)) == {"params": 0, "macs": 0, "bytes": 0}


def test_counting_does_not_import_the_compiler() -> None:
    """In a process of its own: another test may have imported it here."""
    script = """
import sys
from torch import nn
from kdrun.evaluation.cost import macs
layer = nn.TransformerEncoderLayer(8, 2, dim_feedforward=8, batch_first=True)
assert macs(nn.Sequential(nn.Conv2d(1, 8, 2), nn.Flatten(2), layer), (1, 3, 5)) > 0
assert "torch._dynamo" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_figures_of_a_run() -> None:
    logits = torch.zeros(2, 3)
    every = list(figures(subject(torch.zeros(2, dtype=torch.int64), teacher=logits, student=logits)))
    assert [(f.whose, f.name, f.value) for f in every if f.whose == "teacher"] == [
        ("teacher", "params", 15),
        ("teacher", "macs", 12),
        ("teacher", "bytes", 60),
    ]
    assert [(f.value, f.unit) for f in every if f.name == "compression"] == [(1.0, "x")]


class Padded(nn.Module):
    """Adds an image to two convolutions of it, one of them padded by a function, not a module."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(2, 8, 1), nn.Conv2d(8, 8, 3)

    def forward(self, images: Tensor) -> Tensor:
        first = self.one(images)
        return self.two(F.pad(first, (1, 1, 1, 1))) + first


def test_the_peak_of_memory_by_hand() -> None:
    image, map_, padded = 4 * 2 * 36, 4 * 8 * 36, 4 * 8 * 64
    assert bytes_per_image(Padded(), (2, 6, 6)) == image + 2 * map_ + padded
    assert bytes_per_image(nn.Flatten(), (1, 6, 6)) == 4 * 36, "a view takes nothing"


def test_what_is_let_go_is_not_counted_again() -> None:
    layers = [layer for _ in range(20) for layer in (nn.Conv2d(4, 4, 1), nn.Sigmoid())]
    assert bytes_per_image(nn.Sequential(*layers), (4, 6, 6)) == 3 * 4 * 4 * 36


def test_a_model_stays_as_it_is_when_its_memory_is_measured() -> None:
    model = nn.Sequential(nn.BatchNorm2d(1), nn.Dropout(0.5), nn.Flatten())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    bytes_per_image(model, (1, 4, 4))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(module.training for module in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_memory_on_a_gpu() -> None:
    assert bytes_per_image(Padded().cuda(), (2, 6, 6)) == bytes_per_image(Padded(), (2, 6, 6))
