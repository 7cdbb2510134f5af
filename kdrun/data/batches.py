"""Images on the device: the training part with its views, other parts as plain batches for evaluation."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import closing

import torch
from torch import Tensor

from kdrun.data.images import ImageSet, Part
from kdrun.data.lazy import Unread
from kdrun.data.picture import centre
from kdrun.data.resident import Normal, Resident
from kdrun.data.streamed import Streamed
from kdrun.data.views import Plain, Views
from kdrun.types import Rows

PIXELS_PER_BATCH = {"cpu": 2**20, "cuda": 2**25}
"""Pixel values that an evaluation batch may hold: on a CPU 16384 images of 8x8 grey, 341 of 32x32 colour, 6
of 224x224."""

BYTES_PER_BATCH = {"cpu": 2**28, "cuda": 2**32}
"""Bytes of activations that an evaluation batch may take; its operations may take as much again."""

LONG_WAIT = 0.1
"""The share of the time from which a wait for images is worth a note."""

CALIBRATION = 512
"""The most training images for the calibration of int8 (the ranges of activations)."""


def training_images(
    data: ImageSet, views: Views, device: torch.device, part: Part | None = None
) -> Resident | Streamed:
    """The images of the training part, or of another one, in these views; close them after use."""
    return _images(part or data.train, views, data, device)


def plain_batches(
    part: Part, data: ImageSet, device: torch.device, image_bytes: int = 0
) -> Callable[[], Iterator[Tensor]]:
    """Called as often as needed: the part's images in order, unaugmented, as batches of normalised (N, C, H,
    W). image_bytes: of activations for each image, which make batches smaller; 0: not known.
    """
    images, count = _images(part, Plain(), data, device), len(part.labels)
    size = batch_size(math.prod(part.images.shape[1:]), image_bytes, device.type)
    index = [torch.arange(first, min(first + size, count), device=device) for first in range(0, count, size)]

    def batches() -> Iterator[Tensor]:
        with closing(images):
            yield from images.in_turn([Rows(rows, torch.zeros_like(rows)) for rows in index])

    return batches


def batch_size(pixels: int, image_bytes: int, kind: str) -> int:
    """Images of an evaluation batch. pixels: values of an image. kind: of the device."""
    pixel_limit, byte_limit = (limit.get(kind, limit["cpu"]) for limit in (PIXELS_PER_BATCH, BYTES_PER_BATCH))
    return max(1, min(pixel_limit // pixels, byte_limit // max(1, image_bytes)))


def _images(part: Part, views: Views, data: ImageSet, device: torch.device) -> Resident | Streamed:
    normal = Normal(data.mean, data.std, data.white, device)
    if isinstance(part.images, Unread):
        return Streamed(part.images, views, normal)
    return Resident(part.images, views, normal)


def wait_share(images: object, epochs: bool = False) -> dict[str, float]:
    """`waited`: the share of the time (of the last epoch, or all) in which steps waited; {} in memory."""
    return {"waited": round(images.share(epochs), 4)} if isinstance(images, Streamed) else {}


def wait_note(images: object) -> str:
    """A note after a training that waited long for images; empty if it did not."""
    share = wait_share(images, epochs=True).get("waited", 0.0)
    if share < LONG_WAIT:
        return ""
    return (
        f"images  training waited for them {100 * share:.0f} % of the time; more runtime.workers, a larger "
        "runtime.cache_gb or smaller images (dataset.size) help"
    )


def calibration(data: ImageSet) -> Tensor:
    """Training images (N, C, H, W), normalised and unaugmented: CALIBRATION of them, drawn with seed 0."""
    order = torch.randperm(len(data.train.labels), generator=torch.Generator().manual_seed(0))
    rows = order[:CALIBRATION].sort().values
    part = Part(data.train.images[rows], data.train.labels[rows])
    images = torch.cat(list(plain_batches(part, data, torch.device("cpu"))()))
    return images if images.shape[1:] == data.image_shape else centre(images, data.image_shape[2])
