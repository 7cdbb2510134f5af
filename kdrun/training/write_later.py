"""Rows that a device has computed are written to disk while it computes the next ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Codes = NDArray[np.int64]
Write = Callable[[Codes, dict[str, NDArray[Any]]], None]


class WriteLater:
    """Writes each part of rows when the next one has been asked for, so that no device waits for a disk."""

    def __init__(self, write: Write) -> None:
        self.write = write
        self.held: tuple[Codes, OnTheWay] | None = None

    def give(self, codes: Codes, rows: Mapping[str, Tensor]) -> None:
        """codes: (n,). rows: (n, width) by layer, which the device may still have to compute."""
        before, self.held = self.held, (codes, OnTheWay(rows))
        if before is not None:
            self.write(before[0], before[1].arrays())

    def finish(self) -> None:
        """Writes the last part."""
        if self.held is not None:
            self.write(self.held[0], self.held[1].arrays())
        self.held = None


class OnTheWay:
    """Tensors that are copied to the host. The copies wait for the device, the host does not."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self.there = {name: _copied(tensor) for name, tensor in tensors.items()}
        self.copied: torch.cuda.Event | None = None
        if any(tensor.is_cuda for tensor in tensors.values()):
            self.copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self.copied.record()

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The values; waits until they are there, and not for what the device was given since."""
        if self.copied is not None:
            self.copied.synchronize()
        return {name: tensor.numpy() for name, tensor in self.there.items()}


def _copied(tensor: Tensor) -> Tensor:
    """On the host, in memory to which a device can copy by itself."""
    if not tensor.is_cuda:
        return tensor.cpu()
    return torch.empty_like(tensor, device="cpu", pin_memory=True).copy_(tensor, non_blocking=True)
