"""Timm's classifiers by their names, without a file each: `timm/resnet18`, `timm/resnet18.a1_in1k`.

What follows the dot chooses among pretrained weights. Needs the package timm (the extra `timm`).
"""

from __future__ import annotations

from typing import Any

from torch import nn

from kdrun.errors import KdrunError, first_line
from kdrun.extras import install
from kdrun.models.family import Draft
from kdrun.models.inputs import Normalisation, renormalise
from kdrun.models.names import TIMM, timm_names
from kdrun.models.stems import Stem, StemChange, drafted, fit_stem, new_head

STEMS = {
    "ResNet": Stem("conv1", "maxpool"),
    "DenseNet": Stem("features.conv0", "features.pool0"),
    "EfficientNet": Stem("conv_stem"),
    "MobileNetV3": Stem("conv_stem"),
    "RegNet": Stem("stem.conv"),
}
"""Stems that can be replaced if they are one convolution, by timm's class names."""

STATED = {
    "ResNet": ("act1", ""),
    "EfficientNet": ("bn1", ""),
    "MobileNetV3": ("bn1", ""),
    "SwinTransformer": ("patch_embed", ":nhwc"),
    "SwinTransformerV2": ("patch_embed", ":nhwc"),
}
"""Models whose stages are those of timm's `feature_info`, after a stem; `:nhwc` if channels lie last."""


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
    """The classifier `name`, as of torchvision; `stem` the same. pretrained: a flag, since timm names weights
    with the model. Raises KdrunError for unknown names and tags, no stem for `cifar`, missing weights.
    """
    if isinstance(pretrained, str):
        problem = f"timm's weights are named with the model: timm/{name.partition('.')[0]}.{pretrained}"
        raise KdrunError("pretrained", pretrained, problem)
    known(name)
    model = _pretrained(name, classes, channels) if pretrained else _made(name, classes, channels)
    settings: dict[str, Any] = model.pretrained_cfg  # type: ignore[assignment]
    changes = [fit_stem(model, name, stem, native_size, pretrained, STEMS)]
    if pretrained:
        wanted = Normalisation(settings["mean"], settings["std"])
        changes.append(StemChange(renormalise(model, normalisation, wanted)))
        if settings["num_classes"] != classes:
            changes.append(new_head(settings["num_classes"], classes))
    if settings.get("fixed_input_size"):
        model.image_size = settings["input_size"][-1]  # which sizes are tried
    _state_stages(model)
    return drafted(model, changes, pretrained)


def known(name: str) -> None:
    """Raises KdrunError for a name that timm does not have, or if timm is not installed."""
    if not timm_names():
        raise KdrunError("name", name, f"timm is not installed: {install('timm')}")
    architecture, _, tag = name.removeprefix(TIMM).partition(".")
    if TIMM + architecture not in timm_names():
        raise KdrunError("name", name, "timm has no such model", timm_names(), "kdrun list models")
    import timm

    tags = timm.list_models(f"{architecture}.*", pretrained=True)
    if tag and f"{architecture}.{tag}" not in tags:
        raise KdrunError(
            "name", name, f"{architecture} has no such weights", [TIMM + other for other in tags]
        )


def _made(name: str, classes: int, channels: int, **more: Any) -> nn.Module:
    import timm

    model: nn.Module = timm.create_model(
        name.removeprefix(TIMM), num_classes=classes, in_chans=channels, **more
    )
    return model


def _pretrained(name: str, classes: int, channels: int) -> nn.Module:
    """With its weights, downloaded once. Raises KdrunError if that fails."""
    try:
        return _made(name, classes, channels, pretrained=True)
    # Each library on the way has its own errors, which mean the same to the user: there are no weights.
    except Exception as error:
        raise KdrunError("pretrained", "true", f"no weights for {name} ({first_line(error)})") from error


def _state_stages(model: nn.Module) -> None:
    """Names the stages as timm does if a survey of outputs would find others."""
    first, suffix = STATED.get(type(model).__name__, ("", ""))
    if first:
        info: list[dict[str, Any]] = model.feature_info  # type: ignore[assignment]
        names = [entry["module"] for entry in info]
        model.stages = tuple(f"{name}{suffix}" for name in dict.fromkeys([first, *names]))  # type: ignore[assignment]
