"""Images that are not in memory: read when they are asked for, ahead of that by processes of their own."""

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
    """What reading may take. workers: processes, 0 for none. cache: bytes of images that stay in memory.
    room: bytes that images which are all in memory may have on the device, None for any number.
    """

    workers: int = 0
    cache: int = 0
    room: int | None = None


INLINE = Reading()
"""By the process that asks for them, each time anew."""


class Way(NamedTuple):
    """How a source's images are read, given what stands for them.

    one: pixels (C, H, W) of an image; pickled, so that other processes can do it. together: of some images
    the centre squares of a side (None: the whole), (N, C, side, side), in memory. digest: bytes that differ
    where the contents of some images do.
    """

    one: Read
    together: Callable[[Sequence[Any], int | None], Tensor]
    digest: Callable[[Sequence[Any]], bytes]


class Kept:
    """The images that were read first, in memory: as many as there is room for."""

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
        self.place[row] = place  # last, since others copy what has a place


@dataclass(frozen=True, eq=False)
class Unread:
    """Images that are measured and indexed like a tensor (N, C, H, W), and read when that is done.

    items: what stands for each, in the source's words. whole: (C, H, W) as they are read. side: of the centre
    squares that are taken, None for the whole image.
    """

    items: Sequence[Any]
    whole: tuple[int, int, int]
    way: Way
    side: int | None = None
    reading: Reading = INLINE
    kept: Kept = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "kept", Kept(len(self), self.shape[1:], self.reading.cache))

    @property
    def shape(self) -> tuple[int, int, int, int]:
        channels, height, width = self.whole
        return len(self.items), channels, self.side or height, self.side or width

    @property
    def memory(self) -> int:
        """Bytes that all of them take."""
        return math.prod(self.shape)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, rows: Tensor) -> Tensor:
        """(M, C, H, W) uint8 of rows (M,) int64. Raises KdrunError for an image that cannot be read."""
        with closing(Loader(self)) as loader:
            return loader.ask(rows.tolist()).wait()

    def taken(self, rows: Tensor, side: int | None) -> Unread:
        """Some of them, cut to their centre squares."""
        return replace(self, items=[self.items[row] for row in rows.tolist()], side=side)

    def read_by(self, reading: Reading) -> Unread:
        """The same, to be read in that way."""
        return replace(self, reading=reading)

    def together(self) -> Tensor:
        """All in memory. Raises KdrunError for images that cannot be read."""
        return self.way.together(self.items, self.side)

    def digest(self) -> bytes:
        """Bytes that differ where the pixels do. Raises KdrunError for files that are seen to be none."""
        return f"{self.shape}".encode() + self.way.digest(self.items)

    @property
    def one(self) -> Read:
        """From an item to its pixels, as they are taken."""
        return self.way.one if self.side is None else partial(middle, self.way.one, self.side)


class Asked(NamedTuple):
    """Images on their way into memory. pixels: (B, C, H, W) uint8, filled when all is done."""

    pixels: Tensor
    doing: list[Wait]

    def wait(self) -> Tensor:
        """The pixels. Raises what reading raised."""
        for done in self.doing:
            done()
        return self.pixels


class Loader:
    """Reads rows of unread images, those that are kept from memory. To be closed.

    pinned: whether a GPU fetches them from there.
    """

    def __init__(self, images: Unread, pinned: bool = False) -> None:
        self.images, self.pinned = images, pinned
        self.workers = Workers(images.one, images.shape[1:], images.reading.workers)

    def ask(self, rows: Sequence[int]) -> Asked:
        """Begins to read rows, in any order, repeated or not."""
        images = self.images
        pixels = torch.empty((len(rows), *images.shape[1:]), dtype=torch.uint8, pin_memory=self.pinned)
        found, places = pixels.numpy(), images.kept.place[rows]
        absent = np.flatnonzero(places < 0).tolist()

        def give(position: int, image: Pixels) -> None:
            found[absent[position]] = image
            images.kept.keep(rows[absent[position]], image)

        def copy() -> None:
            for position in np.flatnonzero(places >= 0).tolist():
                found[position] = images.kept.pixels[places[position]]

        doing = self.workers.fill([images.items[rows[position]] for position in absent], give)
        return Asked(pixels, [*doing, self.workers.begin(copy)])

    def close(self) -> None:
        self.workers.close()
