"""Images on the device: the training part as a run sees it, other parts as plain batches for evaluation."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from kdrun.config.schema import Runtime
from kdrun.data.images import ImageSet, Part
from kdrun.data.lazy import Reading, Unread
from kdrun.data.resident import Resident
from kdrun.data.streamed import Streamed
from kdrun.data.views import Plain, Views
from kdrun.data.workers import POSSIBLE
from kdrun.errors import KdrunError
from kdrun.figures import file_size
from kdrun.machine import cores
from kdrun.training.step import Images
from kdrun.types import Rows

if TYPE_CHECKING:
    from kdrun.plan.plan import Assembly

PIXELS_PER_BATCH = {"cpu": 2**20, "cuda": 2**25}
"""Evaluation batches are as large as this many pixel values allow, on a CPU: 16384 of 8x8 grey, 341 of 32x32
colour, 6 of 224x224."""

MOST_WORKERS = 32
"""On a GPU `auto` starts no more: no training takes more images than they decode."""

DEVICE_SHARE = 0.5
"""Of a GPU's memory, what images that stay there may take."""

STARVED = 0.1
"""From this share of the time on, that training waited for images is said."""


def reading(runtime: Runtime, device: torch.device) -> Reading:
    """How images are read that do not fit into memory. Raises KdrunError for what this system cannot do."""
    workers = auto_workers(device) if runtime.workers == "auto" else int(runtime.workers)
    if workers and not POSSIBLE:
        raise KdrunError(
            "runtime.workers", workers, "this system can read images in this process only", ["0"]
        )
    room = None
    if device.type == "cuda":
        room = int(DEVICE_SHARE * torch.cuda.get_device_properties(device).total_memory)
    return Reading(workers, int(1e9 * runtime.cache_gb), room)


def auto_workers(device: torch.device) -> int:
    """All cores but one where a GPU computes; a quarter where they have to train as well."""
    if not POSSIBLE:
        return 0
    return max(1, cores() // 4) if device.type == "cpu" else min(max(1, cores() - 1), MOST_WORKERS)


def training_images(assembly: Assembly) -> Resident | Streamed:
    """The images of the training part, augmented as the run asks for; to be closed."""
    return _images(assembly.data.train, assembly.views, assembly.data, assembly.place.device)


def plain_batches(part: Part, data: ImageSet, device: torch.device) -> Callable[[], Iterator[Tensor]]:
    """Called as often as needed: the part's images in order, unaugmented, as batches of normalised (N, C, H,
    W).
    """
    images, count = _images(part, Plain(), data, device), len(part.labels)
    most = PIXELS_PER_BATCH.get(device.type, PIXELS_PER_BATCH["cpu"])
    size = max(1, most // math.prod(part.images.shape[1:]))
    index = [torch.arange(first, min(first + size, count), device=device) for first in range(0, count, size)]

    def batches() -> Iterator[Tensor]:
        with closing(images):
            yield from images.in_turn([Rows(rows, torch.zeros_like(rows)) for rows in index])

    return batches


def _images(part: Part, views: Views, data: ImageSet, device: torch.device) -> Resident | Streamed:
    if isinstance(part.images, Unread):
        return Streamed(part.images, views, data.mean, data.std, data.white, device)
    return Resident(part.images, views, data.mean, data.std, data.white, device)


def streaming(data: ImageSet) -> list[str]:
    """What the screen says of images that do not fit into memory."""
    images = data.train.images
    if not isinstance(images, Unread):
        return []
    workers, kept = images.reading.workers, len(images.kept.pixels)
    who = f"by {workers} process{'es' * (workers > 1)}" if workers else "by the process that trains"
    stay = f"; {kept:,} of {len(images):,} stay there" if kept else ""
    size = file_size(images.memory)
    return [f"images {size} do not fit into memory: read while they are needed, {who}{stay}"]


def waited(images: Images, epochs: bool = False) -> dict[str, float]:
    """`waited`: the share of the last epoch's time (of all epochs' so far) in which steps waited for images;
    nothing where these are in memory.
    """
    return {"waited": round(images.share(epochs), 4)} if isinstance(images, Streamed) else {}


def starved(images: Images) -> str:
    """What is said after a training that waited for images; nothing where it hardly did."""
    share = waited(images, epochs=True).get("waited", 0.0)
    if share < STARVED:
        return ""
    return (
        f"images  training waited for them {100 * share:.0f} % of the time; more runtime.workers, a larger "
        "runtime.cache_gb or smaller images (dataset.size) help"
    )
