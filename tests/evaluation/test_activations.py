from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdrun.evaluation.activations import bytes_per_image


class Padded(nn.Module):
    """Adds an image to two convolutions of it, one of them padded by a function, not a module."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(2, 8, 1), nn.Conv2d(8, 8, 3)

    def forward(self, images: Tensor) -> Tensor:
        first = self.one(images)
        return self.two(F.pad(first, (1, 1, 1, 1))) + first


def test_the_peak_by_hand() -> None:
    image, map_, padded = 4 * 2 * 36, 4 * 8 * 36, 4 * 8 * 64
    assert bytes_per_image(Padded(), (2, 6, 6)) == image + 2 * map_ + padded
    assert bytes_per_image(nn.Flatten(), (1, 6, 6)) == 4 * 36, "a view takes nothing"


def test_what_is_let_go_is_not_counted_again() -> None:
    layers = [layer for _ in range(20) for layer in (nn.Conv2d(4, 4, 1), nn.Sigmoid())]
    assert bytes_per_image(nn.Sequential(*layers), (4, 6, 6)) == 3 * 4 * 4 * 36


def test_the_model_stays_as_it_is() -> None:
    model = nn.Sequential(nn.BatchNorm2d(1), nn.Dropout(0.5), nn.Flatten())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    bytes_per_image(model, (1, 4, 4))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(module.training for module in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu() -> None:
    assert bytes_per_image(Padded().cuda(), (2, 6, 6)) == bytes_per_image(Padded(), (2, 6, 6))
