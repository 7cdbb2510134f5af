"""Which images a run takes. It is known before they are read, so that no others are read."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from kdrun.data.decode import of_all
from kdrun.data.images import Part, Raw
from kdrun.data.lazy import Reading, Unread, in_memory
from kdrun.data.picture import centre
from kdrun.data.split import Split, drawn, take
from kdrun.resources import free_memory
from kdrun.types import UNLABELLED

FREE_SHARE = 0.5
"""The largest share of the free memory for images that stay there."""


def choose(raw: Raw, parts: Split, larger: bool) -> tuple[Part, Part, Part]:
    """The parts that train, validate and test. larger: training images stay larger than a model sees them."""
    held_out = ((raw.validation, parts.validation), (raw.test, parts.test))
    validation, test = (
        taken(raw.train, rows, raw.seen)
        if own is None
        else taken(own, torch.arange(len(own.labels)), raw.seen)
        for own, rows in held_out
    )
    return taken(raw.train, parts.train, None if larger else raw.seen), validation, test


def taken(part: Part, rows: Tensor, side: int | None) -> Part:
    """Some images of a part, cut to their centre squares if a side is given."""
    images, labels = part.images, part.labels[rows]
    if isinstance(images, Unread):
        return Part(images.taken(rows, side), labels)
    return Part(images[rows] if side is None else centre(images[rows], side), labels)


def few(part: Part, most: int) -> Part:
    """At most so many images of a part, drawn by class; if some have no label, half of them are of these."""
    strata = drawn(part.labels.numpy(), "few")
    hidden = strata.pop(UNLABELLED, None)
    unlabelled = [] if hidden is None else [hidden[: most // 2]]
    left = most - sum(map(len, unlabelled))
    known, _ = take(strata, min(left, sum(map(len, strata.values()))), "dataset.train")
    rows = torch.from_numpy(np.sort(np.concatenate([known, *unlabelled])))
    return part.at(rows)


def at_hand(parts: Sequence[Part], reading: Reading) -> list[Part]:
    """The parts with their images in memory if they fit there twice (a run copies them for its device) and
    into the device's share, else with images that `reading` limits. Raises KdrunError.
    """
    needed, free = sum(part.images.memory for part in parts if isinstance(part.images, Unread)), free_memory()
    fits = (free is None or 2 * needed <= free) and (reading.room is None or needed <= reading.room)
    if fits:
        return of_all(lambda part: Part(in_memory(part.images), part.labels), parts)
    left = reading.cache if free is None else min(reading.cache, int(FREE_SHARE * free))
    streamed = []
    for part in parts:  # the first one has the cache first, since each epoch takes all of its images
        images = part.images
        if isinstance(images, Unread):
            images = images.read_by(reading._replace(cache=min(left, images.memory)))
            left -= images.reading.cache
        streamed.append(Part(images, part.labels))
    return streamed
