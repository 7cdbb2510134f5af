"""What a data set is: images and labels in parts, in memory or read when they are needed."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from kdrun.data.lazy import Unread
from kdrun.types import UNLABELLED


class Part(NamedTuple):
    """Images and labels of one part (training, validation or test). images: (N, C, H, W) uint8 on the CPU, or
    with the same shape and indexing, and read when indexed. labels: (N,) int64, -1 if unknown or hidden.
    """

    images: Tensor | Unread
    labels: Tensor

    def at(self, rows: Tensor) -> Part:
        """The images at rows (M,) int64; those that are not in memory are not read."""
        images = self.images
        some = images.taken(rows, images.side) if isinstance(images, Unread) else images[rows]
        return Part(some, self.labels[rows])


class Raw(NamedTuple):
    """What a source reads, before it is split.

    train: all images that may be trained on, in the order of the source. test, validation: the source's own
    parts, or None. classes: names, in the order of the labels. seen: the side of the centre square that a
    model sees, None for the whole image. shares: to hold out for validation and test if nothing else says so.
    """

    train: Part
    test: Part | None
    classes: tuple[str, ...]
    validation: Part | None = None
    seen: int | None = None
    shares: tuple[float, float] | None = None


class Pool(NamedTuple):
    """More images without labels, in memory: (P, C, H, W) uint8, of the training part's shape and white.
    left_out: `a.png (test image 7)` for each near-duplicate of a held-out image. repeated: how many others
    the training part or the pool has already. source: a folder, or a data set's name. fingerprint: SHA-256
    over the pixels.
    """

    images: Tensor
    names: tuple[str, ...]
    left_out: tuple[str, ...]
    repeated: int
    source: str
    fingerprint: str


class ImageSet(NamedTuple):
    """A data set as a run uses it: split, and without the labels that the run may not know.

    validation may hold no images. Images are as a model sees them; those of train may be larger, and views
    are then cut out of them. mean, std: of each channel, (C,), for `(pixels / white - mean) / std`.
    fingerprint: SHA-256 over pixels (or what they are read from) and labels (after hiding) of all parts.
    resized_to: of the shorter side of a picture before the centre was cut out, None if taken as it is. pool:
    in no fingerprint but the students'. test_files: of the test images, empty if they are not from files.
    test_of: how many the whole test part has if `test` holds some of them only; the fingerprint is over the
    whole part.
    """

    name: str
    classes: tuple[str, ...]
    train: Part
    validation: Part
    test: Part
    mean: tuple[float, ...]
    std: tuple[float, ...]
    white: float
    fingerprint: str
    resized_to: int | None = None
    pool: Pool | None = None
    test_files: tuple[str, ...] = ()
    test_of: int | None = None

    @property
    def taught(self) -> Part:
        """What a student is taught on: the training part, and behind it the pool, whose labels are -1."""
        if self.pool is None:
            return self.train
        assert not isinstance(self.train.images, Unread)
        return Part(torch.cat([self.train.images, self.pool.images]), self.taught_labels)

    @property
    def taught_labels(self) -> Tensor:
        """The labels of `taught`."""
        labels = self.train.labels
        if self.pool is None:
            return labels
        return torch.cat([labels, torch.full((len(self.pool.images),), UNLABELLED)])

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the images that a model sees."""
        channels, height, width = self.test.images.shape[1:]
        return channels, height, width


def small(pixels: Tensor, white: float, side: int) -> Tensor:
    """To be shown: (N, C, H, W) uint8 to 255, no side above `side`; of unusual channels the first."""
    values = pixels.float().mul(255 / white).clamp(0, 255)
    values = values if values.shape[1] in (1, 3) else values[:, :1]
    longest = max(values.shape[2:])
    if longest > side and len(values):
        size = [max(1, round(length * side / longest)) for length in values.shape[2:]]
        values = torch.nn.functional.interpolate(values, size, mode="area")
    return values.round().byte()
