"""A `torch.utils.data.Dataset` class of the user's, read into memory once.

Whatever has a length and gives (image, label) by position will do: images are Pillow pictures, NumPy arrays
(H, W) or (H, W, C), or tensors (C, H, W), as uint8 or as float between 0 and 1. Augmentation is kdrun's
(`dataset.views`); a class that gives another image each time is refused.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kdrun.data.images import Part, Raw
from kdrun.data.memory import available
from kdrun.errors import KdrunError
from kdrun.types import UNLABELLED

SHARES = (0.1, 0.2)
"""Of the training images, what validates and what tests where there is no class for it and no number."""

Pixels = NDArray[np.uint8]


class Wanted(NamedTuple):
    """What images become. size: side of the centre square, None: as they are. channels: None: likewise."""

    size: int | None
    channels: int | None


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
    """The images of up to three data sets, each `module:Class` called with its arguments.

    classes: names; None: the training set's `classes`, else the numbers that its labels have. size: resize
    the shorter side to this and cut out the centre; None: images are of one size already. channels: 3 or 1;
    None: as the first image. `data_dir` is not needed. Raises KdrunError for whatever the user can mend.
    """
    if train_class is None:
        raise KdrunError("dataset.train_class", None, "which class? dataset.train_class=mine.data:Pictures")
    source = made("train", train_class, train_args)
    wanted = Wanted(size, channels)
    train = part("train", source, wanted)
    wanted = wanted._replace(channels=train.images.shape[1])
    others = {"validation": (validation_class, validation_args), "test": (test_class, test_args)}
    held = {
        name: None if path is None else part(name, made(name, path, args), wanted)
        for name, (path, args) in others.items()
    }
    return Raw(train, held["test"], names(source, classes, train.labels), held["validation"], None, SHARES)


def made(name: str, path: str, args: Mapping[str, Any] | None) -> Any:
    """The data set `module:Class(**args)`. Raises KdrunError where it is none."""
    key, (module, colon, thing) = f"dataset.{name}_class", path.partition(":")
    if not colon or not module or not thing.isidentifier():
        raise KdrunError(key, path, "is written module:Class, such as mine.data:Pictures")
    try:
        found = getattr(importlib.import_module(module), thing, None)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise
        raise KdrunError(key, path, f"there is no module {error.name}") from error
    if not callable(found):
        raise KdrunError(key, path, f"{module} has no class {thing}")
    given = dict(args or {})
    try:
        inspect.signature(found).bind(**given)
    except TypeError as error:
        raise KdrunError(f"dataset.{name}_args", None, f"{thing} does not take these: {error}") from error
    source = found(**given)
    if not (hasattr(source, "__len__") and hasattr(source, "__getitem__")):
        raise KdrunError(key, path, "needs a length and items by position (__len__, __getitem__)")
    return source


def part(name: str, source: Any, wanted: Wanted) -> Part:
    """All images and labels of a data set, in its order. Raises KdrunError for an item that does not fit."""
    key = f"dataset.{name}_class"
    if not len(source):
        raise KdrunError(key, type(source).__name__, "is empty")
    first, _ = item(key, source, 0, wanted)
    again, _ = item(key, source, 0, wanted)
    if not np.array_equal(first, again):
        problem = "gives another image each time; leave random transforms to dataset.views"
        raise KdrunError(key, type(source).__name__, problem)
    _refuse_too_large(key, source, first)
    wanted = wanted._replace(channels=first.shape[2])
    images: Pixels = np.empty((len(source), *first.shape), np.uint8)
    labels = np.empty(len(source), np.int64)
    for position in range(len(source)):
        image, labels[position] = item(key, source, position, wanted)
        if image.shape != first.shape:
            shapes = [f"{height}x{width}" for height, width, _ in (image.shape, first.shape)]
            problem = (
                f"image {position} is {shapes[0]}, the first {shapes[1]}; dataset.size=N makes them squares"
            )
            raise KdrunError(key, type(source).__name__, problem)
        images[position] = image
    return Part(torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(), torch.from_numpy(labels))


def item(key: str, source: Any, position: int, wanted: Wanted) -> tuple[Pixels, int]:
    """An image (H, W, C) and its label, -1 where that is None or below 0."""
    found, name = source[position], type(source).__name__
    if not isinstance(found, (tuple, list)) or len(found) < 2:
        raise KdrunError(key, name, f"item {position} is not (image, label)")
    try:
        image = fitted(pixels(found[0]), wanted)
    except ValueError as error:
        raise KdrunError(key, name, f"image {position}: {error}") from error
    label = found[1]
    try:
        number = UNLABELLED if label is None else int(label)
    except (TypeError, ValueError) as error:
        raise KdrunError(key, name, f"label {position} is no whole number: {label!r}") from error
    return image, max(number, UNLABELLED)


def pixels(image: Any) -> Pixels:
    """An image as (H, W, C) uint8. Raises ValueError for what is none."""
    if isinstance(image, Tensor):
        array = image.detach().cpu().numpy()
        array = array.transpose(1, 2, 0) if array.ndim == 3 else array
    elif isinstance(image, np.ndarray):
        array = image
    elif hasattr(image, "convert"):  # a Pillow picture
        array = np.asarray(image if image.mode in ("L", "RGB") else image.convert("RGB"))
    else:
        raise ValueError(f"a {type(image).__name__} is no Pillow picture, array or tensor")
    array = array[:, :, None] if array.ndim == 2 else array
    if array.ndim != 3 or 0 in array.shape:
        raise ValueError(f"has shape {tuple(array.shape)}")
    return _as_bytes(array)


def _as_bytes(array: NDArray[Any]) -> Pixels:
    if array.dtype == np.uint8:
        return array
    if not np.issubdtype(array.dtype, np.floating):
        raise ValueError(f"is of type {array.dtype}; uint8, or float from 0 to 1, is needed")
    low, high = float(array.min()), float(array.max())
    if not (low >= 0 and high <= 1):
        problem = "floats must be from 0 to 1, not normalised (dataset.mean and dataset.std do that)"
        raise ValueError(f"has values from {low:g} to {high:g}: {problem}")
    scaled: Pixels = (array * 255).round().astype(np.uint8)
    return scaled


def fitted(image: Pixels, wanted: Wanted) -> Pixels:
    """The image with the channels and of the size that are wanted. Raises ValueError where that cannot be."""
    channels = wanted.channels or image.shape[2]
    if channels == image.shape[2] and wanted.size is None:
        return image
    if channels not in (1, 3) or image.shape[2] not in (1, 3, 4):
        raise ValueError(f"has {image.shape[2]} channels, {channels} are wanted")
    from PIL import Image

    picture = Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)
    picture = picture.convert("RGB" if channels == 3 else "L")
    if wanted.size is not None:
        picture = _square(picture, wanted.size)
    array = np.asarray(picture)
    return array[:, :, None] if array.ndim == 2 else array


def _square(picture: Any, side: int) -> Any:
    """The shorter side resized, bilinearly, with antialiasing; then the centre."""
    from PIL import Image

    width, height = picture.size
    short = min(width, height)
    width, height = int(side * width / short), int(side * height / short)
    picture = picture.resize((width, height), Image.Resampling.BILINEAR)
    left, top = round((width - side) / 2), round((height - side) / 2)
    return picture.crop((left, top, left + side, top + side))


def names(source: Any, given: Sequence[str] | None, labels: Tensor) -> tuple[str, ...]:
    """The names of the classes, in the order of the labels. Raises KdrunError for too few."""
    count = int(labels.max()) + 1
    own = given if given is not None else getattr(source, "classes", None)
    if own is None or isinstance(own, (str, int)):
        return tuple(map(str, range(count)))
    if len(own) < count:
        raise KdrunError("dataset.classes", None, f"{len(own)} names, but labels go up to {count - 1}")
    return tuple(map(str, own))


def _refuse_too_large(key: str, source: Any, first: Pixels) -> None:
    needed, free = 2 * len(source) * first.nbytes, available()  # a run arranges them anew for its device
    if free is not None and needed > free:
        problem = (
            f"needs {needed / 1e9:,.1f} GB of memory, {free / 1e9:,.1f} GB are free; dataset.size=N helps"
        )
        raise KdrunError(key, type(source).__name__, problem)
