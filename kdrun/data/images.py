"""What a data set is: images and labels in parts, in memory or read when they are asked for."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from kdrun.data.lazy import Unread


class Part(NamedTuple):
    """Images and labels of one part (training, validation or test).

    images: (N, C, H, W) uint8 on the CPU, or images that are measured and indexed like these and read when
    that is done. labels: (N,) int64, -1 where the class is unknown or hidden.
    """

    images: Tensor | Unread
    labels: Tensor


class Raw(NamedTuple):
    """What a source reads, before it is split.

    train: all images that may be trained on, in the order of the source. test: the source's own test part,
    or None where it has none; validation likewise. classes: the name of each class, in the order of the
    labels. seen: the side of the centre square that a model sees, None for the whole image. shares: which
    fractions to hold out for validation and test where neither the source nor the configuration says it.
    """

    train: Part
    test: Part | None
    classes: tuple[str, ...]
    validation: Part | None = None
    seen: int | None = None
    shares: tuple[float, float] | None = None


class ImageSet(NamedTuple):
    """A data set as a run uses it: split, with the labels hidden that the run may not know.

    validation may hold no images. The images of train may be larger than those of the other parts, which are
    as a model sees them: then its views are cut out of them. mean, std: of each channel, (C,); an image
    becomes `(pixels / white - mean) / std`. fingerprint: SHA-256 over the pixels and labels (after hiding) of
    all parts, or over what the pixels are read from; the same for images that are read later. resized_to: the
    length to which the shorter side of a picture was resized before the centre was cut out, None if pictures
    were taken as they are.
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

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the images that a model sees."""
        channels, height, width = self.test.images.shape[1:]
        return channels, height, width
