"""Data sets as one: classes by name, sizes, channels, pixel values, test parts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from kdrun.data import digits, fake
from kdrun.data.merged import read
from kdrun.errors import KdrunError

DIGITS = {"source": "digits", "white": 16, "test": 200, "train": 300}
FAKE = {"source": "fake", "classes": 3, "size": 16, "per_class": 20, "test": 15}


def test_classes_are_joined_by_name_and_each_image_keeps_its_own() -> None:
    raw = read(Path(), parts={"a": DIGITS, "b": FAKE}, size=8, channels=1)
    assert raw.classes == (*"0123456789", "class 0", "class 1", "class 2") and raw.test is not None
    assert (len(raw.train.labels), len(raw.test.labels)) == (300 + 45, 200 + 15)
    every = digits.read(Path()).train
    known = {tuple(image.flatten().tolist()): int(label) for image, label in zip(*every, strict=True)}
    back = (raw.train.images[:300].float() * 16 / 255).round().to(torch.uint8)
    assert [known[tuple(image.flatten().tolist())] for image in back] == raw.train.labels[:300].tolist()
    assert raw.train.labels[300:].min() == 10
    shapes = {tuple(part.images.shape[1:]) for part in (raw.train, raw.test)}
    assert shapes == {(1, 8, 8)} and raw.train.images.dtype == torch.uint8


def test_a_class_of_two_sets_is_one_class() -> None:
    raw = read(Path(), parts={"a": FAKE, "b": {**FAKE, "classes": 4, "image_seed": 1}}, size=16, channels=3)
    assert raw.classes == tuple(f"class {number}" for number in range(4))
    own = fake.read(Path(), per_class=20, classes=3, size=16)
    assert torch.isin(raw.train.images[:45].flatten(1).sum(1), own.train.images.flatten(1).sum(1)).all()
    counts = torch.bincount(raw.train.labels)
    assert int(counts.sum()) == 45 + 65 and all(count == 15 + 16 for count in counts[:3]) and counts[3] == 17


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (None, "dataset.parts: two data sets or more are needed"),
        ({"a": DIGITS}, "two data sets or more"),
        ({"a": DIGITS, "b": {"size": 3}}, "dataset.parts.b=.*needs a source"),
        ({"a": DIGITS, "b": {"source": "fake"}}, "dataset.parts.b.test: this data set has no test part"),
        (
            {"a": DIGITS, "b": {**FAKE, "clases": 3}},
            "dataset.parts.b.clases: source fake has no such argument",
        ),
        ({"a": DIGITS, "b": {**FAKE, "test": 900}}, "dataset.parts.b.test=900: must be between 0 and 60"),
        ({"a": DIGITS, "b": {"source": "nix", "test": 1}}, "dataset.parts.b.source=nix: no such source"),
    ],
)
def test_a_part_that_cannot_be_read_is_named(parts: Any, message: str) -> None:
    with pytest.raises(KdrunError, match=message):
        read(Path(), parts=parts)
