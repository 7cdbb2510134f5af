"""A data set as a model of other classes sees it: of some classes only, or under other names.

And classes left out of a transfer set, which the teacher saw (Hinton et al. 2015, section 3).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from kdrun.data.images import ImageSet, Part
from kdrun.data.load import fingerprint
from kdrun.data.split import drawn, mask, take
from kdrun.errors import KdrunError
from kdrun.types import UNLABELLED

KEPT_OUT = 0.1
"""The share of each class that stays out of the transfer set, to choose a bias for the missing classes on."""


def of_classes(data: ImageSet, names: Sequence[str], key: str) -> ImageSet:
    """The labelled images of these classes, which are numbered in the order of `names`. Raises KdrunError
    under `key` if too few are left.
    """
    number = {data.classes.index(name): place for place, name in enumerate(names)}
    relabelled = _relabelled(data, number)
    parts = [part.at(torch.nonzero(part.labels != UNLABELLED).flatten()) for part in relabelled]
    train, validation, test = parts
    if len(torch.unique(train.labels)) < 2 or not len(test.labels):
        problem = "too few labelled images: two classes must have some to train on, and one some to test on"
        raise KdrunError(key, f"[{','.join(names)}]", problem)
    content = [(part.images, part.labels) for part in parts]
    return data._replace(
        classes=tuple(names),
        train=train,
        validation=validation,
        test=test,
        fingerprint=fingerprint(content, len(names)),
    )


def renamed(data: ImageSet, names: Sequence[str], targets: Sequence[int]) -> ImageSet:
    """All images, labelled with the classes `names` of a loaded model's outputs. targets: for each output the
    data set's class, or -1. An image whose class no output means, or several, has no label.
    """
    number = {
        target: place
        for place, target in enumerate(targets)
        if target >= 0 and list(targets).count(target) == 1
    }
    train, validation, test = _relabelled(data, number)
    return data._replace(classes=tuple(names), train=train, validation=validation, test=test)


def _relabelled(data: ImageSet, number: Mapping[int, int]) -> Iterator[Part]:
    """The parts, their labels by their numbers elsewhere, -1 for those that have none."""
    for part in (data.train, data.validation, data.test):
        labels = torch.full_like(part.labels, UNLABELLED)
        for own, other in number.items():
            labels[part.labels == own] = other
        yield part._replace(labels=labels)


class TransferSet(NamedTuple):
    """stays: (N,) bool, which images of the training part are in it. kept_out: (K,) int64, rows of all
    classes that are not. missing: the classes that are not in it; empty if all are, and then nothing is kept
    out.
    """

    stays: Tensor
    kept_out: Tensor
    missing: tuple[int, ...]


def transfer_set(data: ImageSet, classes: Sequence[Any], without: Sequence[Any], seed: int) -> TransferSet:
    """The images of some classes, or of all but some. seed: of the split, for what is kept out. Raises
    KdrunError for an unknown class, if no class is left, and if the class of some image is not known.
    """
    labels = data.train.labels
    if not classes and not without:
        return TransferSet(torch.ones(len(labels), dtype=torch.bool), torch.empty(0, dtype=torch.int64), ())
    key = "transfer_classes" if classes else "transfer_without"
    if unknown := [name for name in classes or without if str(name) not in data.classes]:
        raise KdrunError(key, unknown[0], "no such class", data.classes)
    named = [data.classes.index(str(name)) for name in classes or without]
    every = range(len(data.classes))
    missing = tuple(c for c in every if (c in named) != bool(classes))
    shown = f"[{','.join(map(str, classes or without))}]"
    if len(missing) == len(data.classes) or not missing:
        problem = "leaves no class out" if not missing else "leaves no class in the transfer set"
        raise KdrunError(key, shown, problem)
    if data.pool is not None or bool((labels == UNLABELLED).any()):
        problem = "the classes of images without labels are not known: dataset.labelled=null"
        raise KdrunError(key, shown, problem)
    strata = drawn(labels.numpy(), f"kept out {seed}")
    rows, _ = take(strata, max(len(data.classes), round(KEPT_OUT * len(labels))), key)
    out = mask(len(labels), rows)
    stays = ~out & ~torch.isin(labels, torch.tensor(missing))
    return TransferSet(stays, torch.nonzero(out).flatten(), missing)
