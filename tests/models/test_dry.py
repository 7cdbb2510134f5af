"""A dry forward gives the shapes of a real one, and refuses what that refuses."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from kdrun.models import dry
from kdrun.models.dry import dry_forward


def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 4, 2, stride=2), nn.Conv2d(4, 6, 2, stride=2), nn.AdaptiveAvgPool2d(1))


@pytest.mark.parametrize("small", [dry.SMALL, 0.0], ids=["as it is", "on the meta device"])
def test_images_smaller_than_a_kernel_are_refused(small: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dry, "SMALL", small)
    model = network()
    assert dry_forward(model, (1, 4, 4)).shape == (dry.IMAGES, 6, 1, 1)
    with pytest.raises(RuntimeError, match="Kernel size can't be greater than actual input size"):
        dry_forward(model, (1, 2, 2))
    assert not any(module._forward_hooks for module in model.modules())


def test_a_model_without_values_refuses_them_too() -> None:
    with torch.device("meta"):
        model = network()
    with pytest.raises(RuntimeError):
        dry_forward(model, (1, 2, 2))
