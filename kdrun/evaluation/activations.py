"""The memory of a forward: the tensors that are alive at its peak."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from kdrun.eval_mode import untouched

IMAGES = 2
"""The batch of the probe: two, since some models drop a dimension of length one."""


def bytes_per_image(model: nn.Module, image_shape: tuple[int, int, int]) -> int:
    """Bytes for one image (C, H, W), its own included, at the peak of a forward in evaluation mode.

    Measured in one forward of two black images on the model's device. Weights, statistics and the random
    state do not change. Buffers within an operation are not counted: a convolution can need as much again.
    """
    with untouched(model) as device:
        black = torch.zeros(IMAGES, *image_shape, device=device)
        images = black.contiguous(memory_format=torch.channels_last)
        live = _Live(images)
        with torch.inference_mode(), live:
            model(images)
    return max(1, live.peak // IMAGES)


class _Live(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up the storages of all tensors that are still referenced. peak: the largest sum, in bytes."""

    def __init__(self, first: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.tensors = [weakref.ref(first)]
        self.peak = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # Otherwise torch wraps the method below in a call that imports the compiler.
        return False

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        made = out if isinstance(out, (tuple, list)) else (out,)
        self.tensors += [weakref.ref(each) for each in made if isinstance(each, Tensor)]
        alive = [(ref, tensor) for ref in self.tensors if (tensor := ref()) is not None]
        self.tensors = [ref for ref, _ in alive]
        sizes = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for _, t in alive}
        self.peak = max(self.peak, sum(sizes.values()))
        return out
