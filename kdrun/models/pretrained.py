"""Pretrained weights of the libraries that have them, by name."""

from __future__ import annotations

from typing import Any

from kdrun.errors import KdrunError


def weights_name(family: str, name: str, pretrained: bool | str) -> str:
    """The weights that `pretrained` takes: `ResNet18_Weights.IMAGENET1K_V1`, `resnet18.a1_in1k`."""
    if family == "timm":
        import timm

        known = timm.get_pretrained_cfg(name.partition("/")[2])
        return f"{known.architecture}.{known.tag}" if known and known.tag else name
    return str(torchvision_weights(name, pretrained))


def torchvision_weights(name: str, pretrained: bool | str) -> Any:
    """A member of torchvision's enumeration: the present weights (true), or by name. Raises KdrunError."""
    from torchvision import models

    known = models.get_model_weights(name)
    if pretrained is True:
        return known.DEFAULT
    names = [weights.name for weights in known]
    if pretrained not in names:
        raise KdrunError("pretrained", pretrained, "there are no such weights", ["true", *names])
    return known[str(pretrained)]
