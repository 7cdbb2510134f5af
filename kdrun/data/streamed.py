"""Images that are read during training, ahead of the steps that need them."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice, zip_longest

import torch
from torch import Tensor

from kdrun.data.lazy import Loader, PendingImages, Unread
from kdrun.data.resident import Normal
from kdrun.data.views import Views
from kdrun.data.workers import CHUNK
from kdrun.types import Rows

AHEAD = 2
"""Batches that are read ahead, besides those that keep every process busy."""


class Streamed:
    """The images of one part, read when they are needed. Called with any rows, as `Resident` is, it gives the
    same bits. Rows that were announced are read ahead. Views are drawn in an epoch's plan and applied on the
    device, so images depend neither on the number of processes nor on earlier calls.
    """

    capturable = False

    def __init__(self, images: Unread, views: Views, normal: Normal) -> None:
        self.images, self.views, self.normal, self.device = images, views, normal, normal.device
        self.loader: Loader | None = None
        self.plans: list[list[Rows]] = []
        self.announced: deque[Rows] = deque()
        self.flow: Iterator[Tensor] | None = None
        self.waited, self.began, self.ended = 0.0, 0.0, 0.0
        self.earlier = 0.0, 0.0

    @property
    def memory(self) -> int:
        """Bytes that the images take on the device: 0, as they are dropped after each batch."""
        return 0

    def prepare(self, parts: Iterable[Rows]) -> None:
        """Announces the rows of an epoch's batches, in their order. Several epochs that are announced before
        the first batch is taken are read a batch of each in turn.
        """
        if self.flow is not None or not self.announced:
            self._forget()
        self.plans.append(list(parts))
        turns = zip_longest(*self.plans)
        self.announced = deque(part for turn in turns for part in turn if part is not None)

    def __call__(self, rows: Rows) -> Tensor:
        """(B, C, H, W) float32, normalised, channels_last. Raises KdrunError for one that cannot be read."""
        if not self._is_next(rows):
            return next(self.in_turn([rows]))
        if self.flow is None:
            self.earlier = self._spent()
            self.waited, self.began = 0.0, time.monotonic()
            self.flow = self.in_turn(list(self.announced))
        self.announced.popleft()
        images = next(self.flow)
        self.ended = time.monotonic()
        return images

    def in_turn(self, parts: Sequence[Rows]) -> Iterator[Tensor]:
        """The images of each of the parts, read ahead. Raises KdrunError for one that cannot be read."""
        if not parts:
            return
        if self.loader is None:
            self.loader = Loader(self.images, pinned=self.device.type == "cuda")
        loader = self.loader
        sizes = [len(rows.index) for rows in parts]
        index = iter(torch.split(torch.cat([rows.index for rows in parts]).cpu(), sizes))
        ahead = AHEAD + -(-2 * CHUNK * self.images.reading.workers // max(sizes))
        asked: deque[PendingImages] = deque()
        for rows in parts:
            asked.extend(loader.ask(part.tolist()) for part in islice(index, ahead - len(asked)))
            yield self._seen(self._arrived(asked.popleft()), rows.view)

    def share(self, epochs: bool = False) -> float:
        """The share of the time from an epoch's first batch to its last in which training waited for images.
        epochs: of all epochs so far. On a GPU, waiting counts if it left the GPU idle.
        """
        waited, passed = self._spent() if epochs else (self.waited, self.ended - self.began)
        return waited / max(passed, 1e-9)

    def close(self) -> None:
        """Ends the processes. They start again if more images are needed."""
        if self.loader is not None:
            self.loader.close()
        self.loader = None
        self._forget()

    def _forget(self) -> None:
        """Drops what was announced and is not needed any more."""
        self.plans, self.flow = [], None
        self.announced.clear()

    def _spent(self) -> tuple[float, float]:
        """Seconds of waiting, and seconds in all, of all epochs so far."""
        return self.earlier[0] + self.waited, self.earlier[1] + self.ended - self.began

    def _is_next(self, rows: Rows) -> bool:
        """Whether these are the next announced rows: the same memory, which needs no read from a device."""
        if not self.announced:
            return False
        index = self.announced[0].index
        return index.data_ptr() == rows.index.data_ptr() and len(index) == len(rows.index)

    def _arrived(self, asked: PendingImages) -> Tensor:
        """The pixels on the device; waits for them."""
        started = time.monotonic()
        pixels = asked.wait()
        if self.device.type != "cuda" or torch.cuda.current_stream(self.device).query():
            self.waited += time.monotonic() - started
        return pixels.to(self.device, non_blocking=True)

    def _seen(self, pixels: Tensor, view: Tensor) -> Tensor:
        """Pixels in their views, normalised."""
        index = torch.arange(len(pixels), device=self.device)
        return self.normal(self.views.gather(self.views.store(pixels), index, view))
