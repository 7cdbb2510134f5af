"""A forward that changes nothing, for the shapes that a model gives for images of some size."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import torch
from torch import Tensor, nn

from kdrun.eval_mode import untouched
from kdrun.models.inputs import Resize

SMALL = 3e10
"""Parameters times pixels up to which a forward is really computed. It has far fewer multiplications.

A larger one costs nothing on torch's meta device, where tensors have no values. But the first use of that
device imports the compiler, which takes a second and a half.
"""

IMAGES = 2
"""Images of a dry forward: two, so that a lost batch dimension shows."""


def dry_forward(model: nn.Module, image_shape: tuple[int, int, int]) -> Any:
    """The model's output for two black images (C, H, W), in evaluation mode, for its shapes alone. A large
    model runs on torch's meta device, unless it reads values. Raises what the forward raises.
    """
    with untouched(model) as device, _no_empty_maps(model), torch.no_grad():
        if _work(model, image_shape) > SMALL:
            # If this fails, the real forward decides: it fails too, or the meta device was to blame.
            with suppress(Exception):
                return _on_meta(model, image_shape)
        return model(_images(model, image_shape, device))


def _work(model: nn.Module, image_shape: tuple[int, int, int]) -> float:
    """Parameters times the pixels that the network sees."""
    sides = [
        hook.side
        for module in model.modules()
        for hook in module._forward_pre_hooks.values()
        if isinstance(hook, Resize)
    ]
    pixels = sides[0] ** 2 if sides else image_shape[1] * image_shape[2]
    return float(pixels * sum(parameter.numel() for parameter in model.parameters()))


def _on_meta(model: nn.Module, image_shape: tuple[int, int, int]) -> Any:
    tensors = {
        name: torch.empty_like(tensor, device="meta")
        for named in (model.named_parameters(), model.named_buffers())
        for name, tensor in named
    }
    images = _images(model, image_shape, torch.device("meta"))
    return torch.func.functional_call(model, tensors, (images,))


def _images(model: nn.Module, image_shape: tuple[int, int, int], device: torch.device) -> Tensor:
    kinds = (tensor.dtype for tensor in model.parameters() if tensor.is_floating_point())
    return torch.zeros(IMAGES, *image_shape, dtype=next(kinds, torch.float32), device=device)


@contextmanager
def _no_empty_maps(model: nn.Module) -> Iterator[None]:
    """Convolutions that refuse images smaller than their kernels: every device does, but on older versions of
    torch the meta device gives an empty map."""

    def refuse(module: nn.Module, _: Any, output: Tensor) -> None:
        if output.numel() == 0:
            raise RuntimeError(f"{module} leaves nothing of its input")

    kinds = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
    with ExitStack() as hooks:
        for module in model.modules():
            if isinstance(module, kinds):
                hooks.enter_context(module.register_forward_hook(refuse))
        yield
