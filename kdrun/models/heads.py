"""The head of a model: in float32 where the rest computes in bf16, whose 8 bits are too few; or taken out."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdrun.errors import KdrunError
from kdrun.models.build import Built
from kdrun.models.survey import anatomy, head_of

ANY_CLASSES = 1000
"""With how many classes such a model is built: those of most published weights, which then fit."""


class ExactLinear(nn.Linear):
    """A linear layer that autocast leaves alone: (N, D) in any precision to (N, K) float32."""

    def forward(self, features: Tensor) -> Tensor:
        with torch.autocast(features.device.type, enabled=False):
            return F.linear(features.float(), self.weight, self.bias)


def exact_head(model: nn.Module) -> nn.Module:
    """The same model, whose head computes in float32 if it is a linear layer."""
    head = head_of(model)
    if type(head) is nn.Linear:
        head.__class__ = ExactLinear  # the same parameters and paths; also in copies
    return model


def headless(built: Built, name: str, section: str) -> Built:
    """The model with nothing in place of its head: what it gives is its embedding. section: its key. Raises
    KdrunError without a head, or if pretrained weights do not cover the rest.
    """
    path = anatomy(built.model).head
    if not path:
        raise KdrunError(f"{section}.head", "none", f"no classifier was found in {name}")
    if built.head_is_new:
        problem = f"the weights do not cover all layers before the head ({'; '.join(built.notes)})"
        raise KdrunError(f"{section}.pretrained", "true", problem)
    built.model.set_submodule(path, nn.Identity())
    return built._replace(notes=(*built.notes, "without its classifier: only its layers are read"))


def removed_head(model: nn.Module) -> str:
    """The path below which the classifier's weights would lie that were taken out; empty if none were."""
    path = anatomy(model).head
    return path if path and isinstance(model.get_submodule(path), nn.Identity) else ""
