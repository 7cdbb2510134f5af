"""Logits are float32 where the rest of a model computes in bf16, and nothing else changes."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from kdrun.models.build import build
from kdrun.models.heads import exact_head
from kdrun.models.survey import anatomy
from kdrun.models.taps import Tapped
from tests.models.conf import node


@pytest.mark.parametrize("name", ["resnet8", "vgg8", "shufflenet_v2", "mlp"])
def test_logits_have_all_bits_under_autocast(name: str) -> None:
    model = build(node(name), 10, (3, 32, 32), "auto", 0).model.eval()
    images, state = torch.randn(2, 3, 32, 32), list(model.state_dict())
    with torch.no_grad():
        before = model(images)
        copied = copy.deepcopy(exact_head(model))
        assert torch.equal(copied(images), before) and list(copied.state_dict()) == state
        with torch.autocast("cpu", dtype=torch.bfloat16):
            outputs = Tapped(copied, ["embedding"])(images)
    assert outputs.logits.dtype == torch.float32 and outputs.embedding is not None
    head = copied.get_submodule(anatomy(copied).head)
    assert isinstance(head, nn.Linear)
    exact = nn.functional.linear(outputs.embedding.float(), head.weight, head.bias)
    assert torch.equal(outputs.logits, exact)
    assert not torch.equal(outputs.logits, outputs.logits.bfloat16().float())
