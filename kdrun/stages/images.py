"""Images on the device: the training part as a run sees it, other parts as plain batches for evaluation."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from kdrun.data.images import ImageSet, Part
from kdrun.data.resident import Resident
from kdrun.data.views import Plain
from kdrun.stages.assemble import Assembly
from kdrun.types import Rows

PIXELS_PER_BATCH = 2**20
"""Evaluation batches are as large as this many pixel values allow: 16384 of 8x8 grey, 341 of 32x32 colour."""


def training_images(assembly: Assembly) -> Resident:
    """The images of the training part, augmented as the run asks for."""
    data = assembly.data
    return Resident(data.train.images, assembly.views, data.mean, data.std, data.white, assembly.place.device)


def plain_batches(part: Part, data: ImageSet, device: torch.device) -> Callable[[], Iterator[Tensor]]:
    """Called as often as needed: the part's images in order, unaugmented, as batches of normalised (N, C, H,
    W).
    """
    images = Resident(part.images, Plain(), data.mean, data.std, data.white, device)
    count, size = (
        len(part.labels),
        max(1, PIXELS_PER_BATCH // part.images[0].numel()) if len(part.labels) else 1,
    )

    def batches() -> Iterator[Tensor]:
        for first in range(0, count, size):
            index = torch.arange(first, min(first + size, count), device=device)
            yield images(Rows(index, torch.zeros_like(index)))

    return batches
