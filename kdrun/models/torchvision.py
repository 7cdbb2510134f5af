"""Torchvision's classifiers by their names, without a file each: `family: torchvision`, `args: {}`.

Small images get a stem for them if the model has one, other channel counts a first convolution of their
own, pretrained weights a head for the classes of the data set. Auxiliary heads are off, residual branches
start at zero.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from kdrun.errors import KdrunError, first_line
from kdrun.figures import as_typed
from kdrun.models.family import Draft
from kdrun.models.inputs import Normalisation, renormalise
from kdrun.models.names import torchvision_names
from kdrun.models.stems import StemChange, drafted, fit_stem, new_head, take_channels

IMAGENET_CLASSES = 1000
AUXILIARY = ("googlenet", "inception_v3")


def build(
    *,
    classes: int,
    channels: int,
    name: str,
    native_size: tuple[int, int],
    stem: str,
    pretrained: bool | str,
    normalisation: Normalisation | None,
) -> Draft:
    """The classifier `name`, for images of `channels` channels and native size (H, W).

    stem: auto, cifar or imagenet; auto takes the one for small images up to 64 pixels, but keeps a pretrained
    one. pretrained: false, true (the present weights) or their name (IMAGENET1K_V1). normalisation: of the
    images, undone for weights that want another. Raises KdrunError for an unknown name, a stem that it has
    not, missing weights.
    """
    if name not in torchvision_names():
        problem = "torchvision has no such model"
        raise KdrunError("name", name, problem, torchvision_names(), "kdrun list models")
    chosen = torchvision_weights(name, pretrained) if pretrained else None
    model = _blank(name, classes) if chosen is None else _pretrained(name, chosen, as_typed(pretrained))
    changes = [fit_stem(model, name, stem, native_size, pretrained), take_channels(model, channels)]
    if chosen is not None:
        changes.append(_fit_head(model, classes))
        wanted = chosen.transforms()
        means = Normalisation(tuple(wanted.mean), tuple(wanted.std))
        changes.append(StemChange(renormalise(model, normalisation, means)))
    _state_stages(model)
    return drafted(model, changes, pretrained)


def _blank(name: str, classes: int) -> nn.Module:
    from torchvision import models

    options: dict[str, Any] = {"num_classes": classes}
    if name in AUXILIARY:
        options |= {"aux_logits": False, "init_weights": True}
    if name.startswith(("resnet", "resnext", "wide_resnet")):
        options["zero_init_residual"] = True
    model: nn.Module = models.get_model(name, weights=None, **options)
    return model


def _pretrained(name: str, weights: Any, value: str) -> nn.Module:
    """With those weights; downloaded once. Raises KdrunError with the key's value if that fails."""
    from torchvision import models

    try:
        model: nn.Module = models.get_model(name, weights=weights, progress=False)
    except (OSError, RuntimeError) as error:  # no network, no such page, no room; a broken file
        place = Path(torch.hub.get_dir()) / "checkpoints" / weights.url.rsplit("/", 1)[-1]
        problem = f"no weights for {name} ({first_line(error)}); put {weights.url} at {place}"
        raise KdrunError("pretrained", value, problem) from None
    if name in AUXILIARY:
        _drop_auxiliary(model)
    return model


def _drop_auxiliary(model: nn.Module) -> None:
    """Heads that pretrained weights bring along and that only training would use."""
    for head in ("AuxLogits", "aux1", "aux2"):
        if hasattr(model, head):
            setattr(model, head, None)
    model.aux_logits = False  # type: ignore[assignment]


def _fit_head(model: nn.Module, classes: int) -> StemChange:
    """A new head if the weights are for another number of classes."""
    if classes == IMAGENET_CLASSES:
        return StemChange()
    path, old = [(p, m) for p, m in model.named_modules() if _is_head(m)][-1]
    new: nn.Module
    if isinstance(old, nn.Conv2d):
        new = nn.Conv2d(old.in_channels, classes, 1)
    else:
        assert isinstance(old, nn.Linear)
        new = nn.Linear(old.in_features, classes, bias=old.bias is not None)
    model.set_submodule(path, new)
    return new_head(IMAGENET_CLASSES, classes)


def _is_head(module: nn.Module) -> bool:
    size = getattr(module, "out_features", None) or getattr(module, "out_channels", None)
    return isinstance(module, (nn.Linear, nn.Conv2d)) and size == IMAGENET_CLASSES


def _state_stages(model: nn.Module) -> None:
    """Names the stages if a survey of outputs would not find them as the literature counts them."""
    kind = type(model).__name__
    if kind == "ResNet":
        names = ("layer1", "layer2", "layer3", "layer4")
        ends = (f"{name}.{len(model.get_submodule(name)) - 1}.relu:in" for name in names)  # type: ignore[arg-type]
        model.stages, model.pre = ("relu", *names), ("relu", *ends)  # type: ignore[assignment]
    elif kind == "SwinTransformer":
        count = len(model.get_submodule("features"))  # type: ignore[arg-type]
        blocks = (f"features.{position}:nhwc" for position in (0, *range(1, count, 2)))
        model.stages = tuple(blocks)  # type: ignore[assignment]


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
