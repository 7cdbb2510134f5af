"""From the `dataset` node of a configuration to a split data set in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

import kdrun.lookup as lookup
from kdrun.config.choices import DATASET_HINTS, DATASET_KEYS, DATASET_OPTIONS
from kdrun.data.decode import Picture, of_all
from kdrun.data.images import ImageSet, Raw
from kdrun.data.lazy import INLINE, Reading, Unread, in_memory
from kdrun.data.pool import pool_of
from kdrun.data.select import at_hand, choose, few
from kdrun.data.split import Split, labelled, labelled_by_file, split
from kdrun.data.views import LARGER
from kdrun.errors import KdrunError
from kdrun.types import UNLABELLED
from kdrun.users_code import is_users, one_line

NOT_OF_A_SOURCE = (*DATASET_KEYS, *DATASET_OPTIONS, *DATASET_HINTS)


def load(
    dataset: Mapping[str, Any], data_dir: Path, reading: Reading = INLINE, most: int | None = None
) -> ImageSet:
    """Read, split and label a data set. Raises KdrunError.

    dataset: the plain `dataset` node, as `kdrun.config.check` has checked it. data_dir: where published data
    sets lie or are downloaded to. reading: how images that do not fit into memory are read. most: the images
    of each part that are kept, for a trial.
    """
    raw = checked(read_raw(dataset, data_dir), str(dataset["source"]))
    labels, channels = raw.train.labels, raw.train.images.shape[1]
    held_out = {part: held(dataset, raw, part) for part in ("validation", "test")}
    parts = split(labels, dataset["train"], held_out["validation"], held_out["test"], dataset["split"])
    mean, std = per_channel(dataset, "mean", channels), per_channel(dataset, "std", channels)
    chosen = choose(raw, parts, str(dataset["views"].get("name")) in LARGER)
    known = hidden(chosen[0].labels, dataset, parts, len(labels))
    chosen = (chosen[0]._replace(labels=known), *chosen[1:])
    if most is not None:
        chosen = few(chosen[0], most), few(chosen[1], most), few(chosen[2], most)
    train, validation, whole = at_hand(chosen, reading)
    at = {"train": train, "validation": validation, "test": whole}
    less = reduced(dataset, raw, len(chosen[2].labels))
    return ImageSet(
        name=str(dataset["name"]),
        classes=raw.classes,
        train=train,
        validation=validation,
        test=whole if less is None else few(whole, less),
        mean=mean,
        std=std,
        white=float(dataset["white"]),
        resized_to=None if raw.seen is None else raw.train.images.shape[2],
        fingerprint=fingerprint(chosen, len(raw.classes)),
        pool=pool_of(dataset, at, _unlabelled(dataset.get("unlabelled"), data_dir)),
        test_files=files_of((chosen[2] if less is None else few(chosen[2], less)).images),
        test_of=None if less is None else len(whole.labels),
    )


def _unlabelled(chosen: Any, data_dir: Path) -> Tensor | None:
    """The training images of the data set that is chosen as a pool, None if none is."""
    if not isinstance(chosen, Mapping):
        return None
    return in_memory(checked(read_raw(chosen, data_dir), str(chosen["source"])).train.images)


def headline(setting: str, images: ImageSet) -> str:
    """The weights that a report is about, `last` or `val_best`. auto is `last` if there is no validation part
    or some labels are hidden: then no large labelled validation part is there either. Raises KdrunError for
    `val_best` without a validation part.
    """
    unvalidated = len(images.validation.images) == 0
    if setting == "val_best" and unvalidated:
        raise KdrunError("dataset.headline", setting, "there is no validation part (dataset.validation=0)")
    few = bool((images.train.labels == UNLABELLED).any())
    return setting if setting != "auto" else "last" if few or unvalidated else "val_best"


def read_raw(dataset: Mapping[str, Any], data_dir: Path) -> Raw:
    """Call the source's `read` with the keys that are its arguments."""
    source = str(dataset["source"])
    read = lookup.find(SOURCES, source, "dataset.source")
    arguments = {key: value for key, value in dataset.items() if key not in NOT_OF_A_SOURCE}
    _, *own = lookup.parameters(read).items()
    lookup.check_arguments(f"source {source}", dict(own), arguments, "dataset", DATASET_KEYS)
    with one_line("dataset.source", source) if is_users(read) else nullcontext():
        return read(data_dir, **arguments)


def _reads(module: ModuleType) -> list[Callable[..., Raw]]:
    read = getattr(module, "read", None)
    return [read] if callable(read) else []


SOURCES = lookup.Room("kdrun.data", "source of images", _reads, "a function read(data_dir, ...)")


def checked(raw: Raw, source: str) -> Raw:
    """Returns `raw`. Raises KdrunError if it is not what a source must give: the source may be a user's."""
    parts = [part for part in (raw.train, raw.validation, raw.test) if part is not None]
    for images, labels in parts:
        wrong = isinstance(images, Tensor) and (images.dtype != torch.uint8 or images.dim() != 4)
        if wrong or labels.dtype != torch.int64:
            problem = "images must be (N, C, H, W) uint8 and labels (N,) int64"
        elif images.shape[3] in (3, 4) and min(images.shape[1:3]) > 4:
            problem = f"images must be (N, C, H, W); those of shape {tuple(images.shape)} have channels last"
        elif (
            labels.shape != (len(images),)
            or len(images) == 0
            or images.shape[1:] != parts[0].images.shape[1:]
        ):
            problem = "there must be one label for each image, and images must have one shape"
        elif labels.min() < UNLABELLED or labels.max() >= len(raw.classes):
            problem = f"labels must be -1 (unlabelled) or 0 to {len(raw.classes) - 1}"
        else:
            continue
        raise KdrunError("dataset.source", source, problem)
    return raw


def held(dataset: Mapping[str, Any], raw: Raw, part: str) -> int:
    """How many training images to hold out as `validation` or `test`: 0 if the source has its own part. A
    fraction is one of the labelled training images. Raises KdrunError.
    """
    value = dataset[part]
    if getattr(raw, part) is not None:
        if value is not None and part != "test":
            problem = f"this data set has a {part} part of its own; leave it null"
            raise KdrunError(f"dataset.{part}", value, problem)
        return 0
    if value is None and raw.shares is not None:
        value = dict(zip(("validation", "test"), raw.shares, strict=True))[part]
    if value is None:
        problem = f"this data set has no {part} part of its own: how many images?"
        raise KdrunError(f"dataset.{part}", value, problem)
    if isinstance(value, float):
        return max(1, round(value * int((raw.train.labels != UNLABELLED).sum())))
    return int(value)


def reduced(dataset: Mapping[str, Any], raw: Raw, there: int) -> int | None:
    """How many images of the source's own test part are tested on; None for all. there: how many the run has
    of them. Raises KdrunError if the part has no more than are asked for.
    """
    value = dataset["test"]
    if raw.test is None or value is None:
        return None
    own = len(raw.test.labels)
    asked = max(1, round(value * own)) if isinstance(value, float) else int(value)
    if asked >= own:
        problem = f"its own test part has {own:,} images: choose fewer to try out, or null for all"
        raise KdrunError("dataset.test", value, problem)
    return asked if asked < there else None


def hidden(labels: Tensor, dataset: Mapping[str, Any], parts: Split, images: int) -> Tensor:
    """The labels of the training part, -1 for those that the run may not know."""
    setting = dataset["labelled"]
    if isinstance(setting, str):
        shown = labelled_by_file(Path(setting), parts, images)
    else:
        shown = labelled(labels, setting, dataset["split"], dataset["label_seed"])
    if len(np.unique(labels[shown])) < 2:
        raise KdrunError("dataset.labelled", setting, "the labelled images are all of one class")
    return labels.where(shown, UNLABELLED)


def fingerprint(parts: Iterable[tuple[Tensor | Unread, Tensor]], classes: int) -> str:
    """SHA-256 over shapes, pixels (or what they are read from) and labels of the parts, in hexadecimal."""
    digest = hashlib.sha256(f"{classes} classes".encode())
    for content, labels in of_all(lambda part: (_content(part[0]), part[1]), parts):
        for piece in content:
            digest.update(piece)
        digest.update(labels.contiguous().numpy().data)
    return digest.hexdigest()


def _content(images: Tensor | Unread) -> tuple[bytes | memoryview, ...]:
    if isinstance(images, Unread):
        return (images.digest(),)
    return f"{tuple(images.shape)}".encode(), images.contiguous().numpy().data


def files_of(images: Tensor | Unread) -> tuple[str, ...]:
    """The file of each image; empty if images are not from files."""
    if not isinstance(images, Unread):
        return ()
    return tuple(item.path for item in images.items if isinstance(item, Picture))


def per_channel(dataset: Mapping[str, Any], key: str, channels: int) -> tuple[float, ...]:
    """A number for each channel; one number stands for all."""
    value = dataset[key]
    values = list(value) if isinstance(value, (list, tuple)) else [value] * channels
    if len(values) != channels:
        problem = f"must be one number, or one for each of {channels} channels"
        raise KdrunError(f"dataset.{key}", value, problem)
    return tuple(map(float, values))
