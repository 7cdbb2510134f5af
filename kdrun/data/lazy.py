"""Images that are not in memory: read when they are needed, and ahead of that by other processes."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from kdrun.data.decode import middle
from kdrun.data.workers import Pixels, Read, Wait, Workers


class Reading(NamedTuple):
    """The limits of reading. workers: processes, 0 for none. cache: bytes of images that stay in memory.
    room: bytes that images may take on the device if all are in memory, None for no limit.
    """

    workers: int = 0
    cache: int = 0
    room: int | None = None


INLINE = Reading()
"""In this process, each time anew."""


class Way(NamedTuple):
    """How a source's images are read from their items, which are paths or positions. one: the pixels (C, H,
    W) of one image; pickled for other processes. together: the centre squares of some, (N, C, side, side), in
    memory; side None: whole images. digest: bytes that differ if contents differ.
    """

    one: Read
    together: Callable[[Sequence[Any], int | None], Tensor]
    digest: Callable[[Sequence[Any]], bytes]


class KeptImages:
    """The images that were read first and stay in memory, as many as fit."""

    def __init__(self, count: int, shape: Sequence[int], room: int) -> None:
        """room: in bytes."""
        self.pixels: Pixels = np.empty((min(count, room // math.prod(shape)), *shape), np.uint8)
        self.place = np.full(count, -1, np.int64)
        self.used = 0
        self.lock = threading.Lock()

    def keep(self, row: int, pixels: Pixels) -> None:
        """From any thread."""
        with self.lock:
            if self.place[row] >= 0 or self.used == len(self.pixels):
                return
            place, self.used = self.used, self.used + 1
        self.pixels[place] = pixels
        self.place[row] = place  # last: other threads copy what has a place


@dataclass(frozen=True, eq=False)
class Unread:
    """Images with the shape and the indexing of a tensor (N, C, H, W), which are read when they are indexed.
    items: a path or a position for each. whole: (C, H, W) as they are read. side: of the centre squares that
    are taken, None for whole images.
    """

    items: Sequence[Any]
    whole: tuple[int, int, int]
    way: Way
    side: int | None = None
    reading: Reading = INLINE
    kept: KeptImages = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "kept", KeptImages(len(self), self.shape[1:], self.reading.cache))

    @property
    def shape(self) -> tuple[int, int, int, int]:
        channels, height, width = self.whole
        return len(self.items), channels, self.side or height, self.side or width

    @property
    def memory(self) -> int:
        """Bytes of all images."""
        return math.prod(self.shape)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, rows: Tensor) -> Tensor:
        """(M, C, H, W) uint8 of rows (M,) int64. Raises KdrunError for an image that cannot be read."""
        with closing(Loader(self)) as loader:
            return loader.ask(rows.tolist()).wait()

    def taken(self, rows: Tensor, side: int | None) -> Unread:
        """Some images, cut to their centre squares."""
        return replace(self, items=[self.items[row] for row in rows.tolist()], side=side)

    def read_by(self, reading: Reading) -> Unread:
        """The same images with other limits of reading."""
        return replace(self, reading=reading)

    def together(self) -> Tensor:
        """All images in memory. Raises KdrunError for images that cannot be read."""
        return self.way.together(self.items, self.side)

    def digest(self) -> bytes:
        """Bytes that differ if the pixels differ. Raises KdrunError for files that are no pictures."""
        return f"{self.shape}".encode() + self.way.digest(self.items)

    @property
    def one(self) -> Read:
        """From an item to its pixels, cut to the centre square."""
        return self.way.one if self.side is None else partial(middle, self.way.one, self.side)


def in_memory(images: Tensor | Unread) -> Tensor:
    """All images, in memory. Raises KdrunError for images that cannot be read."""
    return images.together() if isinstance(images, Unread) else images


class PendingImages(NamedTuple):
    """Images that are being read. pixels: (B, C, H, W) uint8, complete when all of `doing` is done."""

    pixels: Tensor
    doing: list[Wait]

    def wait(self) -> Tensor:
        """The pixels. Raises what reading raised."""
        for done in self.doing:
            done()
        return self.pixels


class Loader:
    """Reads rows of unread images, or copies those in memory. Close it. pinned: for a GPU."""

    def __init__(self, images: Unread, pinned: bool = False) -> None:
        self.images, self.pinned = images, pinned
        self.workers = Workers(images.one, images.shape[1:], images.reading.workers)

    def ask(self, rows: Sequence[int]) -> PendingImages:
        """Begins to read rows, in any order, also repeated ones."""
        images = self.images
        pixels = torch.empty((len(rows), *images.shape[1:]), dtype=torch.uint8, pin_memory=self.pinned)
        filled, places = pixels.numpy(), images.kept.place[rows]
        absent = np.flatnonzero(places < 0).tolist()

        def give(position: int, image: Pixels) -> None:
            filled[absent[position]] = image
            images.kept.keep(rows[absent[position]], image)

        def copy() -> None:
            for position in np.flatnonzero(places >= 0).tolist():
                filled[position] = images.kept.pixels[places[position]]

        doing = self.workers.fill([images.items[rows[position]] for position in absent], give)
        return PendingImages(pixels, [*doing, self.workers.begin(copy)])

    def close(self) -> None:
        self.workers.close()
