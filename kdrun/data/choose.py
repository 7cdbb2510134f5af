"""Which images a run takes, before they are read: so that only these are read, and only if they fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from kdrun.data.images import Part, Raw, Unread, centre
from kdrun.data.memory import available
from kdrun.data.split import Split
from kdrun.errors import KdrunError


class Chosen(NamedTuple):
    """Images of a part. rows: their positions. side: of their centre squares, None for whole images."""

    part: Part | Unread
    rows: Tensor
    side: int | None

    @property
    def bytes(self) -> int:
        """What they take in memory."""
        channels, height, width = shape(self.part)
        return len(self.rows) * channels * (self.side or height) * (self.side or width)

    def read(self) -> Part:
        """In memory. Raises KdrunError for files that cannot be read."""
        part, rows = self.part, self.rows
        if isinstance(part, Unread):
            return Part(part.read(rows, self.side or part.shape[1]), part.labels[rows])
        images = part.images[rows]
        return Part(images if self.side is None else centre(images, self.side), part.labels[rows])


def choose(raw: Raw, parts: Split, larger: bool) -> tuple[Chosen, Chosen, Chosen]:
    """What trains, validates and tests. larger: whether training images stay larger than a model sees."""
    held_out = ((raw.validation, parts.validation), (raw.test, parts.test))
    validation, test = (
        Chosen(raw.train, rows, raw.seen)
        if own is None
        else Chosen(own, torch.arange(len(own.labels)), raw.seen)
        for own, rows in held_out
    )
    return Chosen(raw.train, parts.train, None if larger else raw.seen), validation, test


def refuse_too_large(name: str, chosen: Sequence[Chosen]) -> None:
    """Raises KdrunError where images that are still to be read would not fit into memory twice.

    Twice, since a run arranges them anew for its device.
    """
    if not isinstance(chosen[0].part, Unread):
        return
    needed, free = 2 * sum(part.bytes for part in chosen), available()
    if free is not None and needed > free:
        count = sum(len(part.rows) for part in chosen)
        problem = (
            f"needs {needed / 1e9:,.1f} GB of memory for {count:,} images; {free / 1e9:,.1f} GB are free. "
            "Take smaller ones (dataset.size=) or fewer (dataset.train=); "
            "streaming larger sets from disk is yet to come"
        )
        raise KdrunError("dataset", name, problem)


def shape(part: Part | Unread) -> tuple[int, int, int]:
    """(C, H, W) of the images as they are kept."""
    if isinstance(part, Unread):
        return part.shape
    channels, height, width = part.images.shape[1:]
    return channels, height, width
