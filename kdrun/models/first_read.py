"""What reads a model's images first."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from kdrun.models.dry import dry_forward


def convolution_reads_first(model: nn.Module, image_shape: tuple[int, int, int]) -> bool:
    """Whether images (C, H, W) are read by convolutions only, which autocast gives them in its precision."""
    readers = _Readers()
    with readers:
        handle = model.register_forward_pre_hook(lambda module, given: readers.watch(given[0]), prepend=True)
        try:
            dry_forward(model, image_shape)
        finally:
            handle.remove()
    return readers.all_convolve


class _Readers(TorchFunctionMode):
    """Whether all operations that make tensors from the watched one are convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.images: Tensor | None = None
        self.all_convolve: bool = True

    def watch(self, images: Tensor) -> None:
        self.images = images

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        given = (*args, *(kwargs or {}).values())
        if isinstance(result, Tensor) and any(value is self.images for value in given):
            self.all_convolve = self.all_convolve and bool(func is torch.conv2d)
        return result
