"""A data set as a model of other classes sees it: of some classes only, or under other names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from kdrun.data.images import ImageSet, Part
from kdrun.data.load import fingerprint
from kdrun.errors import KdrunError
from kdrun.types import UNLABELLED


def of_classes(data: ImageSet, names: Sequence[str], key: str) -> ImageSet:
    """The labelled images of these classes, which are numbered in the order of `names`. Raises KdrunError
    under `key` if too few are left.
    """
    number = {data.classes.index(name): place for place, name in enumerate(names)}
    parts = [_only(part, number) for part in (data.train, data.validation, data.test)]
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
    parts = [
        part._replace(labels=_mapped(part.labels, number))
        for part in (data.train, data.validation, data.test)
    ]
    train, validation, test = parts
    return data._replace(classes=tuple(names), train=train, validation=validation, test=test)


def _only(part: Part, number: Mapping[int, int]) -> Part:
    mapped = part._replace(labels=_mapped(part.labels, number))
    return mapped.at(torch.nonzero(mapped.labels != UNLABELLED).flatten())


def _mapped(labels: Tensor, number: Mapping[int, int]) -> Tensor:
    """The labels by their numbers elsewhere, -1 for those that have none."""
    mapped = torch.full_like(labels, UNLABELLED)
    for own, other in number.items():
        mapped[labels == own] = other
    return mapped
