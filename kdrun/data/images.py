"""What a data set is: images and labels in parts, as tensors in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor


class Part(NamedTuple):
    """Images and labels of one part (training, validation or test).

    images: (N, C, H, W) uint8 on the CPU. labels: (N,) int64, -1 where the class is unknown or hidden.
    """

    images: Tensor
    labels: Tensor


class Unread(NamedTuple):
    """A part whose images are read when it is known which of them a run takes.

    shape: of the images as they are kept, (C, H, W). labels: (N,) int64. read: positions (M,) int64 and a
    side S to the centre squares of these images, (M, C, S, S) uint8.
    """

    shape: tuple[int, int, int]
    labels: Tensor
    read: Callable[[Tensor, int], Tensor]


class Raw(NamedTuple):
    """What a source reads, before it is split.

    train: all images that may be trained on, in the order of the source. test: the source's own test part,
    or None where it has none; validation likewise. classes: the name of each class, in the order of the
    labels. seen: the side of the centre square that a model sees, None for the whole image. shares: which
    fractions to hold out for validation and test where neither the source nor the configuration says it.
    """

    train: Part | Unread
    test: Part | Unread | None
    classes: tuple[str, ...]
    validation: Part | Unread | None = None
    seen: int | None = None
    shares: tuple[float, float] | None = None


class ImageSet(NamedTuple):
    """A data set as a run uses it: split, with the labels hidden that the run may not know.

    validation may hold no images. The images of train may be larger than those of the other parts, which are
    as a model sees them: then its views are cut out of them. mean, std: of each channel, (C,); an image
    becomes `(pixels / white - mean) / std`. fingerprint: SHA-256 over the pixels and labels (after hiding) of
    all parts; equal where, and only where, these are.
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

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the images that a model sees."""
        channels, height, width = self.test.images.shape[1:]
        return channels, height, width


def centre(images: Tensor, side: int) -> Tensor:
    """The centre squares of images (N, C, H, W): (N, C, side, side)."""
    top, left = (round((length - side) / 2) for length in images.shape[2:])
    return images[:, :, top : top + side, left : left + side]
