"""Batch norm folded into the convolution before it, for models that are only asked and no longer trained."""

from __future__ import annotations

import copy
from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from kdrun.models.taps import Tapped
from kdrun.types import Outputs

TOLERANCE = 1e-4
"""How far folded outputs may be from unfolded ones, relative to the largest; rounding gives about 1e-6."""


def folded(model: nn.Module, image_shape: tuple[int, int, int], needs: Collection[str] = ()) -> nn.Module:
    """A copy in evaluation mode in which each `BatchNorm2d` that directly follows a `Conv2d` is part of it.

    Which follows which is seen in one forward of noise (C, H, W). Logits and the layers in `needs` of the
    copy are then compared with the model's: where they are not the same up to rounding (a layer lies between
    convolution and norm), a plain copy is returned. Paths of modules stay as they are: an identity stands
    where the norm was. The model itself and the global random state are left alone.
    """
    plain = copy.deepcopy(model).eval().requires_grad_(False)
    noise = torch.randn(2, *image_shape, generator=torch.Generator().manual_seed(0)).to(_like(plain))
    small = copy.deepcopy(plain)
    pairs = _pairs(small, noise)
    for conv, path in pairs:
        norm = small.get_submodule(path)
        assert isinstance(norm, nn.BatchNorm2d)
        _absorb(conv, norm)
        parent, _, name = path.rpartition(".")
        setattr(small.get_submodule(parent), name, nn.Identity())
    return small if pairs and _same(plain, small, noise, needs) else plain


def _same(plain: nn.Module, small: nn.Module, images: Tensor, needs: Collection[str]) -> bool:
    said = []
    for model in (plain, small):
        tapped = Tapped(model, needs)
        with torch.no_grad():
            outputs: Outputs = tapped(images)
        tapped.close()
        said.append([outputs.logits, outputs.embedding, *outputs.stages, *outputs.layers.values()])
    both = [(one, two) for one, two in zip(*said, strict=True) if one is not None and two is not None]
    return all(bool((one - two).abs().max() <= TOLERANCE * one.abs().max()) for one, two in both)


class _Uses(TorchFunctionMode):
    """Counts how often each tensor is an argument of an operation that makes tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.count: dict[int, int] = {}
        self.kept: list[object] = []  # so that no id is given twice

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, (Tensor, tuple, list)):
            self.kept += [result, args]
            for tensor in _tensors((args, kwargs)):
                self.count[id(tensor)] = self.count.get(id(tensor), 0) + 1
        return result


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, (tuple, list)) else ()
    return [tensor for item in inner for tensor in _tensors(item)]


def _pairs(model: nn.Module, images: Tensor) -> list[tuple[nn.Conv2d, str]]:
    """Each convolution with the path of the norm that reads its output; all three used once."""
    made: dict[int, nn.Conv2d] = {}
    read: list[tuple[nn.Conv2d, str, int]] = []

    def conv_hook(module: nn.Conv2d, inputs: Any, output: Tensor) -> None:
        made[id(output)] = module

    def norm_hook(path: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            if id(inputs[0]) in made:
                read.append((made[id(inputs[0])], path, id(inputs[0])))

        return hook

    handles = []
    for path, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            handles.append(module.register_forward_hook(conv_hook))
        elif isinstance(module, nn.BatchNorm2d) and module.track_running_stats:
            handles.append(module.register_forward_pre_hook(norm_hook(path)))
    with torch.no_grad(), _Uses() as uses:
        model(images)
    for handle in handles:
        handle.remove()
    convs, paths = [conv for conv, _, _ in read], [path for _, path, _ in read]
    return [
        (conv, path)
        for conv, path, output in read
        if convs.count(conv) == 1 and paths.count(path) == 1 and uses.count.get(output) == 1
    ]


def _like(model: nn.Module) -> Tensor:
    """A parameter, for its device and type."""
    return next(model.parameters())


def _absorb(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    """conv(x) becomes norm(conv(x)), computed in float64."""
    assert norm.running_mean is not None and norm.running_var is not None
    gain = torch.rsqrt(norm.running_var.double() + norm.eps)
    if norm.weight is not None:
        gain = gain * norm.weight.double()
    shift = -norm.running_mean.double() * gain
    if norm.bias is not None:
        shift = shift + norm.bias.double()
    if conv.bias is not None:
        shift = shift + conv.bias.double() * gain
    weight = conv.weight.double() * gain.view(-1, 1, 1, 1)
    conv.weight = nn.Parameter(weight.to(conv.weight), requires_grad=False)
    conv.bias = nn.Parameter(shift.to(conv.weight), requires_grad=False)
