"""The head of a model in float32, where the rest computes in bf16: bf16 has 8 bits, too few for logits."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdrun.models.survey import anatomy


class ExactLinear(nn.Linear):
    """A linear layer that autocast leaves alone: (N, D) in any precision to (N, K) float32."""

    def forward(self, features: Tensor) -> Tensor:
        with torch.autocast(features.device.type, enabled=False):
            return F.linear(features.float(), self.weight, self.bias)


def exact_head(model: nn.Module) -> nn.Module:
    """The same model, whose head computes in float32 if it is a linear layer."""
    path = anatomy(model).head
    head = model.get_submodule(path) if path else None
    if type(head) is nn.Linear:
        head.__class__ = ExactLinear  # the same parameters and paths; also in copies
    return model
