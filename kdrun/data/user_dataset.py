"""The items of a user's data set: pixels and a label, in whatever form the user gives them."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import kdrun.lookup as lookup
from kdrun.data.picture import Pixels, bytes_of, in_bytes, in_channels, square
from kdrun.errors import KdrunError
from kdrun.types import UNLABELLED

LOOKED_AT = 256
"""How many images are hashed of a set that is not read as a whole."""

COLOURS = (1, 3, 4)
"""Channels of grey pictures, of coloured ones, and of those with transparency."""

Shape = tuple[int, ...]


class ImageForm(NamedTuple):
    """What images become. size: side of the centre square; channels: 1 or 3; None: as they are."""

    size: int | None
    channels: int | None


class Items:
    """A data set `module:Class(**args)` by position. Pickled, it is made anew in the other process. role:
    train, validation or test. Raises KdrunError for no data set, an empty one, or another image each time.
    """

    def __init__(self, role: str, path: str, args: Mapping[str, Any] | None, wanted: ImageForm) -> None:
        self.given = (role, path, args, wanted)
        self.key, self.wanted = f"dataset.{role}_class", wanted
        self.source = made(role, path, args)
        self.name = type(self.source).__name__
        if not len(self.source):
            raise KdrunError(self.key, self.name, "is empty")
        self.first = self._item(0)[0]
        if not np.array_equal(self.first, self._item(0)[0]):
            problem = "gives another image each time; leave random transforms to dataset.views"
            raise KdrunError(self.key, self.name, problem)
        self.wanted = wanted._replace(channels=self.first.shape[2])

    def __reduce__(self) -> tuple[type[Items], tuple[Any, ...]]:
        return Items, self.given

    def __len__(self) -> int:
        return len(self.source)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of every image."""
        height, width, channels = self.first.shape
        return channels, height, width

    def __call__(self, position: int) -> Pixels:
        """(C, H, W) uint8. Raises KdrunError for an item that does not fit."""
        image: Pixels = self.item(position)[0].transpose(2, 0, 1)
        return image

    def item(self, position: int) -> tuple[Pixels, int]:
        """An image (H, W, C) like the first, and its label. Raises KdrunError for one that does not fit."""
        image, label = self._item(position)
        if image.shape != self.first.shape:
            shapes = [f"{height}x{width}" for height, width, _ in (image.shape, self.first.shape)]
            problem = f"image {position} is {shapes[0]}, the first {shapes[1]}"
            raise KdrunError(self.key, self.name, f"{problem}; dataset.size=N makes them squares")
        return image, label

    def _item(self, position: int) -> tuple[Pixels, int]:
        """An image (H, W, C) and its label, -1 for None and for numbers below 0."""
        item = self.source[position]
        if not isinstance(item, (tuple, list)) or len(item) < 2:
            raise KdrunError(self.key, self.name, f"item {position} is not (image, label)")
        try:
            image = fitted(pixels(item[0], self.wanted.channels), self.wanted)
        except ValueError as error:
            raise KdrunError(self.key, self.name, f"image {position}: {error}") from error
        try:
            return image, _number(item[1])
        except (TypeError, ValueError) as error:
            problem = f"label {position} is no whole number: {item[1]!r}"
            raise KdrunError(self.key, self.name, problem) from error

    def targets(self) -> Tensor | None:
        """All labels (N,) int64 from the data set's `targets`, or None. Raises KdrunError for wrong ones."""
        targets = getattr(self.source, "targets", None)
        if targets is None or len(targets) != len(self):
            return None
        try:
            labels = torch.tensor([_number(label) for label in targets])
        except (TypeError, ValueError):
            return None
        for position in (0, len(self) // 2, len(self) - 1):
            label = self.item(position)[1]
            if label != labels[position]:
                problem = f"label {position} is {label}, but {labels[position]} in `targets`"
                raise KdrunError(self.key, self.name, problem)
        return labels

    def whole(self) -> tuple[Tensor, Tensor]:
        """All images (N, C, H, W) uint8 and labels (N,) int64."""
        images = np.empty((len(self), *self.first.shape), np.uint8)
        labels = np.empty(len(self), np.int64)
        for position in range(len(self)):
            images[position], labels[position] = self.item(position)
        return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(), torch.from_numpy(labels)

    def together(self, positions: Sequence[int], side: int | None) -> Tensor:
        """The images at some positions, (N, C, H, W) uint8. side: None, as they have their size already."""
        images = np.empty((len(positions), *self.shape), np.uint8)
        for place, position in enumerate(positions):
            images[place] = self(position)
        return torch.from_numpy(images)

    def digest(self, positions: Sequence[int]) -> bytes:
        """Bytes that differ if some of the images differ."""
        digest = hashlib.blake2b()
        for position in positions[:: max(1, len(positions) // LOOKED_AT)]:
            digest.update(self(position).tobytes())
        return digest.digest()


def _number(label: Any) -> int:
    """A whole number, -1 for None and for numbers below 0."""
    return UNLABELLED if label is None else max(int(label), UNLABELLED)


def made(name: str, path: str, args: Mapping[str, Any] | None) -> Any:
    """The data set `module:Class(**args)`. Raises KdrunError if it is no data set."""
    key, (module, colon, class_name) = f"dataset.{name}_class", path.partition(":")
    if not colon or not module or not class_name.isidentifier():
        raise KdrunError(key, path, "is written module:Class, such as mine.data:Pictures")
    imported = lookup.imported(module)
    if imported is None:
        raise KdrunError(key, path, f"there is no module {module}")
    dataset_class = getattr(imported, class_name, None)
    if not callable(dataset_class):
        raise KdrunError(key, path, f"{module} has no class {class_name}")
    if home := _borrowed(dataset_class, module):
        problem = f"{class_name} is code of {home}: name it there, with packages=[{home.partition('.')[0]}]"
        raise KdrunError(key, path, problem)
    given = dict(args or {})
    lookup.check_arguments(class_name, lookup.parameters(dataset_class), given, f"dataset.{name}_args")
    source = dataset_class(**given)
    if not (hasattr(source, "__len__") and hasattr(source, "__getitem__")):
        raise KdrunError(key, path, "needs a length and items by position (__len__, __getitem__)")
    return source


def _borrowed(call: Any, module: str) -> str:
    """The module of a function or class that `module` only imports, as `from os import system` does; empty if
    it is of the same package, or a class of data sets. The packages of the command line bind what is called.
    """
    if not (inspect.isclass(call) or inspect.isroutine(call)):
        return ""
    home = str(getattr(call, "__module__", None) or "")
    is_own = home.partition(".")[0] == module.partition(".")[0]
    is_data = inspect.isclass(call) and hasattr(call, "__len__") and hasattr(call, "__getitem__")
    return "" if is_own or is_data else home


def pixels(image: Any, channels: int | None = None) -> Pixels:
    """An image as (H, W, C) uint8. channels: that it is to have, if known. Raises ValueError for no image."""
    if isinstance(image, Tensor):
        array = image.detach().cpu().numpy()
        _refuse_turned(array.shape, array.shape[::-1], "a tensor has its channels first", channels)
        array = array.transpose(1, 2, 0) if array.ndim == 3 else array
    elif isinstance(image, np.ndarray):
        array = image
        _refuse_turned(array.shape, array.shape, "an array has its channels last", channels)
    elif hasattr(image, "convert"):  # a Pillow picture
        array = np.asarray(in_channels(in_bytes(image, getattr(image, "format", None)), None))
    else:
        raise ValueError(f"a {type(image).__name__} is no Pillow picture, array or tensor")
    array = array[:, :, None] if array.ndim == 2 else array
    if array.ndim != 3 or 0 in array.shape:
        raise ValueError(f"has shape {tuple(array.shape)}")
    return _as_bytes(array)


def _refuse_turned(shape: Shape, channels_last: Shape, rule: str, channels: int | None) -> None:
    """Raises ValueError for a shape that looks as if the channels were at its other end. channels_last: the
    shape with its channels last. channels: a number that was given is taken for true.
    """
    if len(shape) == 3 and channels_last[2] not in (*COLOURS, channels) and channels_last[0] in COLOURS:
        problem = f"has shape {tuple(shape)}, which is {channels_last[2]} channels: {rule}"
        raise ValueError(f"{problem} (dataset.channels={channels_last[2]} if it is meant)")


def _as_bytes(array: NDArray[Any]) -> Pixels:
    if array.dtype == np.uint8:
        return array
    if not np.issubdtype(array.dtype, np.floating):
        raise ValueError(f"is of type {array.dtype}; uint8, or float from 0 to 1, is needed")
    try:
        return bytes_of(array)
    except ValueError as error:
        raise ValueError(f"has {error}; dataset.mean and dataset.std normalise") from None


def fitted(image: Pixels, wanted: ImageForm) -> Pixels:
    """The image with the channels and of the size that are wanted. Raises ValueError if that cannot be."""
    channels = wanted.channels or image.shape[2]
    if channels == image.shape[2] and wanted.size is None:
        return image
    if channels not in (1, 3) or image.shape[2] not in COLOURS:
        raise ValueError(f"has {image.shape[2]} channels, {channels} are wanted")
    from PIL import Image

    picture = in_channels(Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image), channels)
    if wanted.size is not None:
        picture = square(picture, wanted.size)
    array = np.asarray(picture)
    return array[:, :, None] if array.ndim == 2 else array
