"""Initial weights by He et al. 2015 (Delving Deep into Rectifiers), as the CIFAR zoo uses them."""

from __future__ import annotations

import math

from torch import nn


def he_fan_out(model: nn.Module) -> None:
    """Convolutions: normal with standard deviation sqrt(2 / (kernel area * out channels)), bias 0; depthwise
    ones too (out channels, not 1). Other layers stay as torch makes them.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            area = module.kernel_size[0] * module.kernel_size[1]
            nn.init.normal_(module.weight, 0.0, math.sqrt(2.0 / (area * module.out_channels)))
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def narrow_linear(layer: nn.Linear) -> None:
    """A linear layer: normal with standard deviation 0.01, bias 0."""
    nn.init.normal_(layer.weight, 0.0, 0.01)
    nn.init.zeros_(layer.bias)
