from __future__ import annotations

import sys

import torch
from torch import nn

from kdrun.evaluation.cost import cost, figures, macs, params, state_bytes
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
    found = cost(convolutional(), (3, 8, 8))
    assert found["macs"] == 16 * 8 * 27 + 16 * 8 * 2 * 9 + 1280
    assert found["params"] == 216 + 16 + (8 * 2 * 9 + 8) + 1290
    # Beside the parameters: running mean and variance, and one int64 counter.
    assert found["bytes"] == 4 * (found["params"] + 16) + 8


def test_attention_is_counted_with_and_without_weights() -> None:
    """In evaluation mode torch takes a fused encoder layer, without a formula: it would count as nothing."""
    layer = nn.TransformerEncoderLayer(32, 4, dim_feedforward=64, batch_first=True)

    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = layer

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.layer(images.flatten(1, 2))
            return out

    projections, attention, feed_forward = 4 * 16 * 32 * 32, 2 * 16 * 16 * 32, 2 * 16 * 32 * 64
    enabled = torch.backends.mha.get_fastpath_enabled()
    assert macs(Tokens(), (1, 16, 32)) == projections + attention + feed_forward
    assert torch.backends.mha.get_fastpath_enabled() == enabled


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
    loaded = "torch._dynamo" in sys.modules
    macs(convolutional(), (3, 8, 8))
    assert ("torch._dynamo" in sys.modules) == loaded


def test_figures_of_a_run() -> None:
    logits = torch.zeros(2, 3)
    every = list(figures(subject(torch.zeros(2, dtype=torch.int64), teacher=logits, student=logits)))
    assert [(f.whose, f.name, f.value) for f in every if f.whose == "teacher"] == [
        ("teacher", "params", 15),
        ("teacher", "macs", 12),
        ("teacher", "bytes", 60),
    ]
    assert [(f.value, f.unit) for f in every if f.name == "compression"] == [(1.0, "x")]
