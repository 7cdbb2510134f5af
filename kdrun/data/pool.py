"""Images without labels beside the training part: `dataset.unlabelled`. Their classes are not read.

Near-duplicates of held-out images are left out: pictures that show the same, however they were saved, resized
or brightened. Two tests must agree. The difference hash (Krawetz, "Kind of Like That", 2013) is 64 signs: of
an 8x9 thumbnail, whether each pixel is darker than the next one. And small thumbnails must correlate, since
drawings on an empty ground have few signs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from kdrun.data.decode import Square, blocks
from kdrun.data.imagefolder import files_in
from kdrun.data.images import Part, Pool
from kdrun.data.lazy import Unread
from kdrun.errors import KdrunError
from kdrun.paths import expanded
from kdrun.types import LUMA

KEY = "dataset.unlabelled"

BITS = 10
"""The most of the 64 signs in which near-duplicates differ."""

CORRELATION = 0.98
"""The least correlation of their thumbnails."""

SIDE = 16
"""The side of these thumbnails; smaller images stay as they are."""

BLOCK = 2_048
"""Images that are looked at together."""


def pool(source: str, images: Tensor, names: Sequence[str], parts: Mapping[str, Part]) -> Pool:
    """The images that may be used. parts: as a model sees them. Raises KdrunError if none is left."""
    near = {part: near_duplicates(images, parts[part].images) for part in ("validation", "test")}
    left_out = [
        f"{name} ({part} image {place})"
        for part, places in near.items()
        for name, place in zip(names, places.tolist(), strict=True)
        if place >= 0 and (part == "validation" or near["validation"][names.index(name)] < 0)
    ]
    clean = (near["validation"] < 0) & (near["test"] < 0)
    fresh = clean & _unseen(images, clean, parts["train"].images)
    kept = torch.nonzero(fresh).flatten()
    if not len(kept):
        problem = (
            f"none of its {len(images)} images is left: {len(left_out)} are near-duplicates of held-out ones"
        )
        raise KdrunError(KEY, source, f"{problem}, the others are training images")
    used, repeated = images[kept], int(clean.sum() - fresh.sum())
    content = hashlib.sha256(used.contiguous().numpy().data).hexdigest()
    return Pool(used, tuple(names[i] for i in kept), tuple(left_out), repeated, source, content)


def from_folder(folder: Path, shape: Sequence[int], white: float) -> tuple[Tensor, list[str]]:
    """All pictures below a folder as (P, C, H, W) uint8 with pixels 0..white, and their paths in it. shape:
    (C, H, W). Raises KdrunError for a folder without pictures and for files that are none.
    """
    files = [picture.path for picture in files_in(folder)]
    if not files:
        raise KdrunError(KEY, folder, "no pictures in it")
    channels, height, width = shape
    wanted = Square(max(height, width), channels)
    read = torch.cat([torch.from_numpy(block) for _, block in blocks(files, wanted)])
    return as_seen(read, shape, 255, white), [str(Path(file).relative_to(folder)) for file in files]


def as_seen(images: Tensor, shape: Sequence[int], white: float, wanted: float) -> Tensor:
    """Images (P, c, h, w) uint8 with pixels 0..white as (P, C, H, W) with pixels 0..wanted; resized
    bilinearly with antialiasing. Images that fit are returned as they are.
    """
    if tuple(images.shape[1:]) == tuple(shape) and white == wanted:
        return images
    pixels = images.float()
    if pixels.shape[1] != shape[0]:
        grey = (
            pixels
            if pixels.shape[1] == 1
            else (pixels * torch.tensor(LUMA).view(3, 1, 1)).sum(1, keepdim=True)
        )
        pixels = grey.expand(-1, shape[0], -1, -1)
    if pixels.shape[2:] != tuple(shape[1:]):
        pixels = F.interpolate(pixels, tuple(shape[1:]), mode="bilinear", antialias=True)
    return (pixels * (wanted / white)).round().clamp(0, wanted).to(torch.uint8)


def _unseen(images: Tensor, clean: Tensor, train: Tensor | Unread) -> Tensor:
    """(N,) bool: whether no training image and no earlier image of the pool has exactly these pixels."""
    seen = set[bytes]() if isinstance(train, Unread) else set(map(digest, train))
    new = torch.zeros(len(images), dtype=torch.bool)
    for row in torch.nonzero(clean).flatten().tolist():
        mark = digest(images[row])
        new[row] = mark not in seen
        seen.add(mark)
    return new


def digest(image: Tensor) -> bytes:
    """Equal for images (C, H, W) of the same pixels."""
    return hashlib.blake2b(image.contiguous().numpy().data, digest_size=16).digest()


def pool_of(dataset: Mapping[str, Any], parts: Mapping[str, Part], other: Tensor | None) -> Pool | None:
    """The pool of a `dataset` node, None without one. other: the images of the data set that it names."""
    chosen = dataset.get("unlabelled")
    if chosen is None:
        return None
    white, shape = float(dataset["white"]), parts["train"].images.shape[1:]
    if isinstance(parts["train"].images, Unread):
        problem = "these images do not fit into memory, and a pool can only stand beside images that do"
        raise KdrunError(KEY, _name(chosen), problem)
    if other is None:
        images, names = from_folder(expanded(str(chosen)), shape, white)
    else:
        images = as_seen(other, shape, float(chosen["white"]), white)
        names = [f"{chosen['name']} image {i}" for i in range(len(images))]
    return pool(_name(chosen), images, names, parts)


def _name(chosen: Any) -> str:
    return str(chosen["name"]) if isinstance(chosen, Mapping) else str(chosen)


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
