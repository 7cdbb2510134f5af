"""MNIST and Fashion-MNIST: four idx files under `data_dir`, as torchvision lays them out, gzipped or not."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from kdrun.data.fetch import damaged, ensure
from kdrun.data.images import Part, Raw
from kdrun.errors import KdrunError

FOLDERS = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST"}
DIGITS = tuple("0123456789")
CLOTHES = (
    *("T-shirt/top", "trouser", "pullover", "dress", "coat"),
    *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
)
STEMS = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")


def read(data_dir: Path, *, variant: str) -> Raw:
    """The grey 28x28 images of `mnist` or `fashion_mnist`, with their own test part.

    Raises KdrunError for another variant, and for files that are missing or damaged.
    """
    if variant not in FOLDERS:
        raise KdrunError("dataset.variant", variant, "no such variant", FOLDERS)
    folder = data_dir / FOLDERS[variant] / "raw"
    files = [[folder / f"{stem}-ubyte", folder / f"{stem}-ubyte.gz"] for stem in STEMS]
    train_x, train_y, test_x, test_y = ensure(variant, files, data_dir, lambda: download(variant, data_dir))
    classes = DIGITS if variant == "mnist" else CLOTHES
    return Raw(part(variant, train_x, train_y), part(variant, test_x, test_y), classes)


def download(variant: str, data_dir: Path) -> None:
    """Let torchvision fetch and check the four files."""
    from torchvision import datasets

    (datasets.MNIST if variant == "mnist" else datasets.FashionMNIST)(str(data_dir), download=True)


def part(variant: str, images: Path, labels: Path) -> Part:
    """One part from its file of images and its file of labels, which must match."""
    pixels, classes = read_idx(variant, images, dimensions=3), read_idx(variant, labels, dimensions=1)
    if len(pixels) != len(classes):
        raise damaged(variant, labels, f"{len(classes)} labels for {len(pixels)} images")
    if classes.max(initial=0) > 9:
        raise damaged(variant, labels, f"a label of {classes.max()}")
    return Part(torch.from_numpy(pixels).unsqueeze(1), torch.from_numpy(classes).long())


def read_idx(variant: str, path: Path, dimensions: int) -> NDArray[np.uint8]:
    """The array of bytes in an idx file: magic number, sizes (32 bits, big-endian), then the values."""
    content = unpacked(variant, path)
    start = 4 + 4 * dimensions
    if len(content) < start or content[:4] != bytes((0, 0, 8, dimensions)):
        raise damaged(variant, path, f"not an idx file of bytes in {dimensions} dimensions")
    shape = [int(size) for size in np.frombuffer(content, ">u4", dimensions, 4)]
    if len(content) != start + math.prod(shape):
        raise damaged(variant, path, f"{len(content) - start} bytes for {' x '.join(map(str, shape))} values")
    values: NDArray[np.uint8] = np.frombuffer(content, np.uint8, offset=start).reshape(shape).copy()
    return values


def unpacked(variant: str, path: Path) -> bytes:
    """The content of a file, unpacked where it is gzipped."""
    if path.suffix != ".gz":
        return path.read_bytes()
    try:
        with gzip.open(path) as stream:
            return stream.read()
    except (OSError, EOFError, zlib.error) as error:
        raise damaged(variant, path, str(error)) from error
