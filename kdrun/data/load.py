"""From the `dataset` node of a configuration to a split data set in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kdrun import lookup
from kdrun.data.images import ImageSet, Raw
from kdrun.data.lazy import INLINE, Reading, Unread
from kdrun.data.select import at_hand, choose
from kdrun.data.split import Split, labelled, labelled_by_file, split
from kdrun.data.views import LARGER
from kdrun.errors import KdrunError
from kdrun.types import UNLABELLED

GENERIC = (
    *("name", "source", "train", "validation", "test", "split", "labelled", "label_seed"),
    *("views", "mean", "std", "white", "resize", "headline", "recipe"),
)
"""The keys that every data set has; all others are arguments of its source's `read`."""

HINTS = ("temperature", "methods")
"""Keys that a data set may have for others; they do not concern its images."""


def load(dataset: Mapping[str, Any], data_dir: Path, reading: Reading = INLINE) -> ImageSet:
    """Read, split and label a data set.

    dataset: the plain `dataset` node; the keys are `GENERIC` and the arguments of its source's `read`.
    data_dir: where published data sets lie or are downloaded to. reading: how images are read that do not fit
    into memory. Raises KdrunError for whatever the user can mend.
    """
    raw = checked(read_raw(dataset, data_dir), str(given(dataset, "source")))
    seed, labels = whole(dataset, "split"), raw.train.labels
    parts = split(labels, optional(dataset, "train"), validating(dataset, raw), held(dataset, raw), seed)
    channels = raw.train.images.shape[1]
    mean, std = per_channel(dataset, "mean", channels), per_channel(dataset, "std", channels)
    chosen = choose(raw, parts, str(given(dataset, "views")["name"]) in LARGER)
    train, validation, test = at_hand(chosen, reading)
    train = train._replace(labels=hidden(train.labels, dataset, parts, len(labels)))
    told = [part.labels for part in (train, validation, test)]
    return ImageSet(
        name=str(given(dataset, "name")),
        classes=raw.classes,
        train=train,
        validation=validation,
        test=test,
        mean=mean,
        std=std,
        white=positive(dataset, "white"),
        fingerprint=fingerprint(zip([part.images for part in chosen], told, strict=True), len(raw.classes)),
    )


def headline(setting: str, images: ImageSet) -> str:
    """Which weights the report's headline takes, `last` or `val_best`, where the setting may be `auto`.

    Auto is `last` where there is no validation part, or some labels are hidden: who has few labels has no
    large labelled validation part either.
    """
    if setting not in ("last", "val_best", "auto"):
        raise KdrunError("dataset.headline", setting, "no such headline", ("last", "val_best", "auto"))
    unvalidated = len(images.validation.images) == 0
    if setting == "val_best" and unvalidated:
        raise KdrunError("dataset.headline", setting, "there is no validation part (dataset.validation=0)")
    few = bool((images.train.labels == UNLABELLED).any())
    return setting if setting != "auto" else "last" if few or unvalidated else "val_best"


def read_raw(dataset: Mapping[str, Any], data_dir: Path) -> Raw:
    """Call the source's `read` with the keys that are its arguments."""
    source = str(given(dataset, "source"))
    read = lookup.find(SOURCES, source, "dataset.source")
    arguments = {key: value for key, value in dataset.items() if key not in (*GENERIC, *HINTS)}
    _, *own = lookup.parameters(read).items()
    lookup.check_arguments(f"source {source}", dict(own), arguments, "dataset", GENERIC)
    return read(data_dir, **arguments)


def _reads(module: ModuleType) -> list[Callable[..., Raw]]:
    read = getattr(module, "read", None)
    return [read] if callable(read) else []


SOURCES = lookup.Room("kdrun.data", "source of images", _reads, "a function read(data_dir, ...)")


def checked(raw: Raw, source: str) -> Raw:
    """The same, where it is what a source must give. Raises KdrunError: the source may be a user's module."""
    parts = [part for part in (raw.train, raw.validation, raw.test) if part is not None]
    for images, labels in parts:
        wrong = isinstance(images, Tensor) and (images.dtype != torch.uint8 or images.dim() != 4)
        if wrong or labels.dtype != torch.int64:
            problem = "images must be (N, C, H, W) uint8 and labels (N,) int64"
        elif (
            labels.shape != (len(images),)
            or len(images) == 0
            or images.shape[1:] != parts[0].images.shape[1:]
        ):
            problem = "images and labels must be of one number, and images of one shape"
        elif labels.min() < UNLABELLED or labels.max() >= len(raw.classes):
            problem = f"labels must be -1 (unlabelled) or 0 to {len(raw.classes) - 1}"
        else:
            continue
        raise KdrunError("dataset.source", source, problem)
    return raw


def held(dataset: Mapping[str, Any], raw: Raw) -> int:
    """How many images to hold out as the test part: 0 where the source has its own."""
    setting = given(dataset, "test")
    if raw.test is not None:
        _leave_null("test", setting)
        return 0
    if setting is None and raw.shares is not None:
        return share(raw.shares[1], raw)
    if not setting:
        raise KdrunError(
            "dataset.test", setting, "this data set has no test part of its own: how many images?"
        )
    return counted(dataset, "test", raw)


def validating(dataset: Mapping[str, Any], raw: Raw) -> int:
    """How many images to hold out as the validation part: 0 where the source has its own."""
    setting = given(dataset, "validation")
    if raw.validation is not None:
        _leave_null("validation", setting)
        return 0
    if setting is None and raw.shares is not None:
        return share(raw.shares[0], raw)
    return counted(dataset, "validation", raw)


def counted(dataset: Mapping[str, Any], key: str, raw: Raw) -> int:
    """A number of images: as it is given, or a fraction of the source's labelled training images."""
    value = given(dataset, key)
    if not isinstance(value, float):
        return whole(dataset, key)
    if not 0 < value < 1:
        raise KdrunError(f"dataset.{key}", value, "a fraction must be above 0 and below 1")
    return share(value, raw)


def share(fraction: float, raw: Raw) -> int:
    """That fraction of the source's labelled training images, at least one."""
    return max(1, round(fraction * int((raw.train.labels != UNLABELLED).sum())))


def _leave_null(key: str, setting: Any) -> None:
    if setting is not None:
        problem = f"this data set has a {key} part of its own; leave it null"
        raise KdrunError(f"dataset.{key}", setting, problem)


def hidden(labels: Tensor, dataset: Mapping[str, Any], parts: Split, images: int) -> Tensor:
    """The labels of the training part, -1 where the run may not know them."""
    setting = given(dataset, "labelled")
    if isinstance(setting, bool) or not isinstance(setting, (int, float, str, type(None))):
        problem = "must be null (all), a count per class, a fraction, or the path of an index file"
        raise KdrunError("dataset.labelled", setting, problem)
    if isinstance(setting, str):
        shown = labelled_by_file(Path(setting), parts, images)
    else:
        shown = labelled(labels, setting, whole(dataset, "split"), whole(dataset, "label_seed"))
    if len(np.unique(labels[shown])) < 2:
        raise KdrunError("dataset.labelled", setting, "the labelled images are all of one class")
    return labels.where(shown, UNLABELLED)


def fingerprint(parts: Iterable[tuple[Tensor | Unread, Tensor]], classes: int) -> str:
    """SHA-256 over shapes, pixels (or what they are read from) and labels of the parts, in hexadecimal."""
    digest = hashlib.sha256(f"{classes} classes".encode())
    for images, labels in parts:
        if isinstance(images, Unread):
            digest.update(images.digest())
        else:
            digest.update(f"{tuple(images.shape)}".encode())
            digest.update(images.contiguous().numpy().data)
        digest.update(labels.contiguous().numpy().data)
    return digest.hexdigest()


def given(dataset: Mapping[str, Any], key: str) -> Any:
    """The value of a key that every data set must have."""
    if key not in dataset:
        raise KdrunError(f"dataset.{key}", None, "is missing: every data set must give it")
    return dataset[key]


def whole(dataset: Mapping[str, Any], key: str) -> int:
    """A whole number from 0."""
    value = given(dataset, key)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise KdrunError(f"dataset.{key}", value, "must be a whole number from 0")
    return value


def optional(dataset: Mapping[str, Any], key: str) -> int | None:
    """A whole number from 0, or None."""
    return None if given(dataset, key) is None else whole(dataset, key)


def positive(dataset: Mapping[str, Any], key: str) -> float:
    """A number above 0."""
    value = given(dataset, key)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
        raise KdrunError(f"dataset.{key}", value, "must be a number above 0")
    return float(value)


def per_channel(dataset: Mapping[str, Any], key: str, channels: int) -> tuple[float, ...]:
    """A number for each channel; one number stands for all."""
    value = given(dataset, key)
    values = list(value) if isinstance(value, (list, tuple)) else [value] * channels
    if any(isinstance(v, bool) or not isinstance(v, (int, float)) for v in values) or len(values) != channels:
        raise KdrunError(f"dataset.{key}", value, f"must be a number, or one for each of {channels} channels")
    if key == "std" and min(values) <= 0:
        raise KdrunError("dataset.std", value, "must be above 0")
    return tuple(float(v) for v in values)
