"""A model without its classifier, as many weights are published: only its layers are read."""

from __future__ import annotations

from torch import nn

from kdrun.errors import KdrunError
from kdrun.models.build import Built
from kdrun.models.survey import anatomy

ANY_CLASSES = 1000
"""With how many classes such a model is built: those of most published weights, which then fit."""


def headless(built: Built, name: str, section: str) -> Built:
    """The model with nothing in place of its head: what it gives is its embedding.

    name: of the model. section: the key of the configuration that describes it. Raises KdrunError if it has
    no head, or if pretrained weights do not cover the rest.
    """
    path = anatomy(built.model).head
    if not path:
        raise KdrunError(f"{section}.head", "none", f"no classifier was found in {name}")
    if built.head_is_new:
        problem = f"the weights do not cover all layers before the head ({'; '.join(built.notes)})"
        raise KdrunError(f"{section}.pretrained", "true", problem)
    built.model.set_submodule(path, nn.Identity())
    return built._replace(notes=(*built.notes, "without its classifier: only its layers are read"))


def head_of(model: nn.Module) -> str:
    """The path below which the classifier's weights would lie that were taken out; empty if none were."""
    path = anatomy(model).head
    return path if path and isinstance(model.get_submodule(path), nn.Identity) else ""
