"""Near-duplicates: pictures that show the same, however they were saved, resized or brightened.

Two tests, both of which must agree. The difference hash (Krawetz, "Kind of Like That", 2013) is 64 signs: of
an 8x9 thumbnail, whether each pixel is darker than the next one. And small thumbnails must correlate, since
drawings on an empty ground have few signs.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from kdrun.data.lazy import Unread

BITS = 10
"""The most of the 64 signs in which near-duplicates differ."""

CORRELATION = 0.98
"""The least correlation of their thumbnails."""

SIDE = 16
"""The side of these thumbnails; smaller images stay as they are."""

BLOCK = 2_048
"""Images that are looked at together."""


def near_duplicates(images: Tensor | Unread, others: Tensor | Unread) -> Tensor:
    """(N,) int64: for each of `images` the position among `others` of a near-duplicate, -1 without one.
    images, others: (N, C, H, W), (M, C, H, W) uint8 of the same channels and size.
    """
    matches = torch.full((len(images),), -1)
    if not len(others):
        return matches
    theirs = [torch.cat(parts) for parts in zip(*map(_looks, _blocks(others)), strict=True)]
    first = 0
    for block in _blocks(images):
        signs, thumbnails = _looks(block)
        equal = (signs @ theirs[0].T) >= 64 - 2 * BITS
        alike = (thumbnails @ theirs[1].T) * equal
        best, place = alike.max(dim=1)
        matches[first : first + len(block)] = place.where(best >= CORRELATION, -1)
        first += len(block)
    return matches


def _looks(images: Tensor) -> tuple[Tensor, Tensor]:
    """Signs (B, 64), each -1 or 1, and thumbnails (B, pixels), each of mean 0 and length 1."""
    grey = images.float().mean(dim=1, keepdim=True)
    small = F.interpolate(grey, (8, 9), mode="bilinear", antialias=True)
    signs = (small[..., :-1] < small[..., 1:]).flatten(1).float() * 2 - 1
    sides = [min(SIDE, side) for side in grey.shape[2:]]
    thumbnails = F.interpolate(grey, sides, mode="bilinear", antialias=True).flatten(1)
    return signs, F.normalize(thumbnails - thumbnails.mean(dim=1, keepdim=True), dim=1)


def _blocks(images: Tensor | Unread) -> Iterator[Tensor]:
    for first in range(0, len(images), BLOCK):
        yield images[torch.arange(first, min(first + BLOCK, len(images)))]
