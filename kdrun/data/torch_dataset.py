"""A `torch.utils.data.Dataset` class of the user's: read into memory once, or item by item if it is large.

Any class with a length that gives (image, label) by position will do. Images are Pillow pictures, NumPy
arrays (H, W) or (H, W, C), or tensors (C, H, W), as uint8 or as float from 0 to 1. kdrun augments
(`dataset.views`), so a class that gives another image each time is refused. Reading item by item needs all
labels in a list or array called `targets`, as torchvision's classes have it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from kdrun.data.images import Part, Raw
from kdrun.data.lazy import Unread, Way
from kdrun.data.user_dataset import ImageForm, Items
from kdrun.errors import KdrunError
from kdrun.resources import free_memory

SHARES = (0.1, 0.2)
"""The fractions of the training images that validate and test if there is no class and no number for it."""

LARGE = 2**31
"""Bytes: a larger set is not read as a whole if it has `targets`."""


def read(
    data_dir: Path,
    *,
    train_class: str | None = None,
    train_args: Mapping[str, Any] | None = None,
    validation_class: str | None = None,
    validation_args: Mapping[str, Any] | None = None,
    test_class: str | None = None,
    test_args: Mapping[str, Any] | None = None,
    classes: Sequence[str] | None = None,
    size: int | None = None,
    channels: int | None = None,
) -> Raw:
    """The images of up to three data sets, each `module:Class` called with its arguments. classes: names;
    None: the training set's `classes`, or the numbers of its labels. size: resize the shorter side to this
    and cut out the centre; None: images have one size. channels: 3 or 1; None: as the first image. Raises
    KdrunError.
    """
    if train_class is None:
        raise KdrunError("dataset.train_class", None, "which class? dataset.train_class=mine.data:Pictures")
    items = Items("train", train_class, train_args, ImageForm(size, channels))
    train = part(items)
    others = {"validation": (validation_class, validation_args), "test": (test_class, test_args)}
    held = {
        name: None if path is None else part(Items(name, path, args, items.wanted))
        for name, (path, args) in others.items()
    }
    labels = names(items.source, classes, train.labels)
    return Raw(train, held["test"], labels, held["validation"], None, SHARES)


def part(items: Items) -> Part:
    """All images and labels of a data set, in its order. Raises KdrunError for an item that does not fit."""
    memory = len(items) * items.first.nbytes
    labels = items.targets() if memory > LARGE else None
    if labels is not None:
        return Part(Unread(range(len(items)), items.shape, Way(items, items.together, items.digest)), labels)
    _refuse_too_large(items, memory)
    return Part(*items.whole())


def names(source: Any, given: Sequence[str] | None, labels: Tensor) -> tuple[str, ...]:
    """The names of the classes, in the order of the labels. Raises KdrunError for too few."""
    count = int(labels.max()) + 1
    own = given if given is not None else getattr(source, "classes", None)
    if own is None or isinstance(own, (str, int)):
        return tuple(map(str, range(count)))
    if len(own) < count:
        raise KdrunError("dataset.classes", None, f"{len(own)} names, but labels go up to {count - 1}")
    return tuple(map(str, own))


def _refuse_too_large(items: Items, memory: int) -> None:
    free = free_memory()
    if free is not None and 2 * memory > free:  # a run copies them for its device
        help = "dataset.size=N helps"
        if memory > LARGE:
            help += ", and so do all labels in an attribute `targets`: then images are read one by one"
        problem = f"needs {2 * memory / 1e9:,.1f} GB of memory, {free / 1e9:,.1f} GB are free; {help}"
        raise KdrunError(items.key, items.name, problem)
