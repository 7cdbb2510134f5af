"""What a data set is: images and labels in parts, as tensors in memory."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Part(NamedTuple):
    """Images and labels of one part (training, validation or test).

    images: (N, C, H, W) uint8 on the CPU. labels: (N,) int64, -1 where the class is unknown or hidden.
    """

    images: Tensor
    labels: Tensor


class Raw(NamedTuple):
    """What a source reads, before it is split.

    train: all images that may be trained on, in the order of the source. test: the source's own test part,
    or None where it has none. classes: the name of each class, in the order of the labels.
    """

    train: Part
    test: Part | None
    classes: tuple[str, ...]


class ImageSet(NamedTuple):
    """A data set as a run uses it: split, with the labels hidden that the run may not know.

    validation may hold no images. mean, std: of each channel, (C,); an image becomes `(pixels / white - mean)
    / std`. fingerprint: SHA-256 over the pixels and labels (after hiding) of all parts; equal where, and only
    where, these are.
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
