"""Work that a frozen model can do without: batch norm after a convolution, repeated casts."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack, closing
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from kdrun.machine import exact
from kdrun.models.taps import Tapped
from kdrun.types import Outputs

Pair = tuple[str, str]
"""The paths of a convolution and of the norm that reads its output."""

TOLERANCE = 1e-4
"""How far folded outputs may be from unfolded ones, relative to the largest; rounding gives about 1e-6."""


def folded(
    model: nn.Module,
    image_shape: tuple[int, int, int],
    needs: Collection[str] = (),
    say: Callable[[str], None] = lambda text: None,
) -> nn.Module:
    """A copy in evaluation mode in which each `BatchNorm2d` that directly follows a `Conv2d` is part of it.

    One forward of noise (C, H, W) shows which norm follows which convolution. The logits and the layers in
    `needs` are compared with the model's, in exact float32, since rounding to TF32 or bf16 is larger than
    TOLERANCE. Norms that would change one of them stay as they are, and `say` is called with a note. Module
    paths stay the same: an identity takes the place of a norm.
    """
    plain = copy.deepcopy(model).eval().requires_grad_(False)
    noise = noise_for(plain, image_shape)
    pairs = _pairs(plain, noise)
    small = _folded(plain, pairs)
    with exact():
        right = _outputs(plain, noise, needs)

        def changed_in(model: nn.Module) -> list[str]:
            now = _outputs(model, noise, needs)
            far = {name: (now[name] - tensor).abs().max() for name, tensor in right.items()}
            return [name for name, gap in far.items() if not gap <= TOLERANCE * right[name].abs().max()]

        if changed := changed_in(small):
            kept = [pair for pair in pairs if not changed_in(_folded(plain, [pair]))]
            small = _folded(plain, kept)
            if changed_in(small):
                kept, small = [], plain
            say(_apart(len(pairs) - len(kept), len(pairs), changed))
    return small


def _apart(count: int, of: int, changed: Sequence[str]) -> str:
    stay = "stays apart from its convolution" if count == 1 else "stay apart from their convolutions"
    return f"teacher  {count} of {of} norms {stay}: {', '.join(changed)} would change"


def _folded(plain: nn.Module, pairs: Sequence[Pair]) -> nn.Module:
    """A copy with these pairs folded."""
    small = copy.deepcopy(plain)
    for conv_path, path in pairs:
        conv, norm = small.get_submodule(conv_path), small.get_submodule(path)
        assert isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
        _absorb(conv, norm)
        parent, _, name = path.rpartition(".")
        setattr(small.get_submodule(parent), name, nn.Identity())
    return small


def cast_once(model: nn.Module, dtype: torch.dtype) -> nn.Module:
    """The same model, its convolutions' weights in the precision in which autocast computes with them: it
    would convert those of a frozen model in every forward. Called under autocast, the bits are the same.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.to(dtype)
    return model


def _outputs(model: nn.Module, images: Tensor, needs: Collection[str]) -> dict[str, Tensor]:
    """The model's outputs by layer name."""
    with closing(Tapped(model, needs)) as tapped, torch.no_grad():
        outputs: Outputs = tapped(images)
    return outputs.named()


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
            for value in tree_leaves((args, kwargs)):
                if isinstance(value, Tensor):
                    self.count[id(value)] = self.count.get(id(value), 0) + 1
        return result


def _pairs(model: nn.Module, images: Tensor) -> list[Pair]:
    """Each convolution with the norm that reads its output; all three used once."""
    made: dict[int, str] = {}
    read: list[tuple[str, str, int]] = []

    def convolved(path: str, module: nn.Module, inputs: Any, output: Tensor) -> None:
        made[id(output)] = path

    def normalises(path: str, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if id(inputs[0]) in made:
            read.append((made[id(inputs[0])], path, id(inputs[0])))

    with torch.no_grad(), ExitStack() as hooks:
        for path, module in model.named_modules():
            if isinstance(module, nn.Conv2d):
                hooks.enter_context(module.register_forward_hook(partial(convolved, path)))
            elif isinstance(module, nn.BatchNorm2d) and module.track_running_stats:
                hooks.enter_context(module.register_forward_pre_hook(partial(normalises, path)))
        uses = hooks.enter_context(_Uses())
        model(images)
    convs, paths = [conv for conv, _, _ in read], [path for _, path, _ in read]
    return [
        (conv, path)
        for conv, path, output in read
        if convs.count(conv) == 1 and paths.count(path) == 1 and uses.count.get(output) == 1
    ]


def noise_for(model: nn.Module, image_shape: tuple[int, int, int]) -> Tensor:
    """Two images of noise, always the same, on the model's device and of its type."""
    noise = torch.randn(2, *image_shape, generator=torch.Generator().manual_seed(0))
    return noise.to(next(model.parameters()))


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
