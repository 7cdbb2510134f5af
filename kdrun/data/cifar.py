"""CIFAR-10 and CIFAR-100: the published python pickles under `data_dir`, as torchvision lays them out."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from kdrun.data.fetch import damaged, ensure
from kdrun.data.images import Part, Raw
from kdrun.data.pickles import array, read_pickle
from kdrun.errors import KdrunError


class Variant(NamedTuple):
    """Where a variant's pickles are and under which keys they hold labels and the names of the classes."""

    folder: str
    train: tuple[str, ...]
    test: str
    meta: str
    labels: str
    names: str


VARIANTS = {
    "cifar10": Variant(
        folder="cifar-10-batches-py",
        train=tuple(f"data_batch_{n}" for n in range(1, 6)),
        test="test_batch",
        meta="batches.meta",
        labels="labels",
        names="label_names",
    ),
    "cifar100": Variant(
        folder="cifar-100-python",
        train=("train",),
        test="test",
        meta="meta",
        labels="fine_labels",
        names="fine_label_names",
    ),
}


def read(data_dir: Path, *, variant: str) -> Raw:
    """The 32x32 colour images of `cifar10` or `cifar100` (its 100 fine classes), with their own test part.

    Raises KdrunError for another variant, and for files that are missing or damaged.
    """
    if variant not in VARIANTS:
        raise KdrunError("dataset.variant", variant, "no such variant", VARIANTS)
    this = VARIANTS[variant]
    folder = data_dir / this.folder
    files = [[folder / name] for name in (*this.train, this.test, this.meta)]
    *train, test, meta = ensure(variant, files, data_dir, lambda: download(variant, data_dir))
    classes = class_names(variant, meta)
    images, labels = zip(*(read_batch(variant, path, len(classes)) for path in train), strict=True)
    whole = Part(torch.cat(images), torch.cat(labels))
    return Raw(whole, Part(*read_batch(variant, test, len(classes))), classes)


def download(variant: str, data_dir: Path) -> None:
    """Let torchvision fetch, check and unpack the archive."""
    from torchvision import datasets

    (datasets.CIFAR10 if variant == "cifar10" else datasets.CIFAR100)(str(data_dir), download=True)


def read_batch(variant: str, path: Path, classes: int) -> tuple[Tensor, Tensor]:
    """The images and labels of one pickle. The file stores each image as its red, green and blue plane."""
    content = plain(variant, path)
    try:
        images = torch.from_numpy(array(content.get("data")).reshape(-1, 3, 32, 32))
        labels = torch.tensor([int(label) for label in content.get(VARIANTS[variant].labels, ())])
    except (ValueError, TypeError) as error:
        raise damaged(variant, path, str(error)) from error
    if len(images) != len(labels) or not len(labels):
        raise damaged(variant, path, f"{len(labels)} labels for {len(images)} images")
    if labels.min() < 0 or labels.max() >= classes:
        raise damaged(variant, path, f"a label outside 0 to {classes - 1}")
    return images, labels


def class_names(variant: str, path: Path) -> tuple[str, ...]:
    """The names of the classes, in the order of the labels."""
    names = plain(variant, path).get(VARIANTS[variant].names)
    if not isinstance(names, list) or not names:
        raise damaged(variant, path, "it names no classes")
    return tuple(name.decode("latin1") if isinstance(name, bytes) else str(name) for name in names)


def plain(variant: str, path: Path) -> dict[str, Any]:
    """The dictionary in one of the pickles."""
    try:
        return read_pickle(path)
    except (ValueError, OSError) as error:
        raise damaged(variant, path, str(error)) from error
