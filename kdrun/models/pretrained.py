"""The names of pretrained weights in the libraries that have them."""

from __future__ import annotations


def weights_name(family: str, name: str) -> str:
    """`ResNet18_Weights.IMAGENET1K_V1` of torchvision, `resnet18.a1_in1k` of timm: the weights that
    `pretrained` takes for a model.
    """
    if family == "timm":
        import timm

        known = timm.get_pretrained_cfg(name.partition("/")[2])
        return f"{known.architecture}.{known.tag}" if known and known.tag else name
    from torchvision import models

    return str(models.get_model_weights(name).DEFAULT)
