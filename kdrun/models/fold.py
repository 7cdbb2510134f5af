"""Work that a frozen model can do without: batch norm after a convolution, repeated casts."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from kdrun.machine import exact
from kdrun.models.taps import Tapped
from kdrun.types import Outputs

TOLERANCE = 1e-4
"""How far folded outputs may be from unfolded ones, relative to the largest; rounding gives about 1e-6."""


def folded(
    model: nn.Module,
    image_shape: tuple[int, int, int],
    needs: Collection[str] = (),
    say: Callable[[str], None] = lambda text: None,
) -> nn.Module:
    """A copy in evaluation mode in which each `BatchNorm2d` that directly follows a `Conv2d` is part of it.

    One forward of noise (C, H, W) shows which norm follows which convolution. Then the logits and the layers
    in `needs` of the copy are compared with the model's. If they differ by more than rounding (a layer lies
    between convolution and norm), a plain copy is returned, and `say` is called with a note. Module paths
    stay the same: an identity takes the place of the norm. The model and the global random state are not
    changed. Both are compared in exact float32, since rounding to TF32 or bf16 is larger than TOLERANCE.
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
    with exact():
        changed = _changed(_outputs(plain, noise, needs), _outputs(small, noise, needs))
    if changed:
        say(f"teacher  its norms stay apart from its convolutions: {', '.join(changed)} would change")
    return plain if changed or not pairs else small


def cast_once(model: nn.Module, dtype: torch.dtype) -> nn.Module:
    """The same model, its convolutions' weights in the precision in which autocast computes with them.

    Autocast keeps converted weights only if they are trained; those of a frozen model it would convert in
    every forward. Called under autocast, the model gives the same bits.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.to(dtype)
    return model


def _outputs(model: nn.Module, images: Tensor, needs: Collection[str]) -> dict[str, Tensor]:
    """The model's outputs by layer name."""
    tapped = Tapped(model, needs)
    with torch.no_grad():
        outputs: Outputs = tapped(images)
    tapped.close()
    stages = {f"stage:{position}": stage for position, stage in enumerate(outputs.stages)}
    tensors = {"logits": outputs.logits, "embedding": outputs.embedding} | stages | dict(outputs.layers)
    return {name: tensor for name, tensor in tensors.items() if tensor is not None}


def _changed(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> list[str]:
    """Layers that differ by more than rounding."""
    far = {name: (after[name] - tensor).abs().max() for name, tensor in before.items()}
    return [name for name, distance in far.items() if not distance <= TOLERANCE * before[name].abs().max()]


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
    """conv(x) becomes norm(conv(x)), computed in float64 on the CPU: not every device has float64."""
    assert norm.running_mean is not None and norm.running_var is not None
    gain = torch.rsqrt(_wide(norm.running_var) + norm.eps)
    if norm.weight is not None:
        gain = gain * _wide(norm.weight)
    shift = -_wide(norm.running_mean) * gain
    if norm.bias is not None:
        shift = shift + _wide(norm.bias)
    if conv.bias is not None:
        shift = shift + _wide(conv.bias) * gain
    weight = _wide(conv.weight) * gain.view(-1, 1, 1, 1)
    conv.weight = nn.Parameter(weight.to(conv.weight), requires_grad=False)
    conv.bias = nn.Parameter(shift.to(conv.weight), requires_grad=False)


def _wide(tensor: Tensor) -> Tensor:
    return tensor.to("cpu", torch.float64)
