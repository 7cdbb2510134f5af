"""Which images train, validate and test, and which carry labels: stratified, a function of seeds alone.

Draws use NumPy's legacy generator, whose stream is frozen, so that a seed means the same images for good.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kdrun.errors import KdrunError
from kdrun.paths import expanded
from kdrun.types import UNLABELLED

Indices = NDArray[np.int64]
Strata = dict[int, Indices]
"""The images of each class that are left, in their drawn order."""


class Split(NamedTuple):
    """Positions in the source's training images, int64, ascending; no image is in two parts."""

    train: Tensor
    validation: Tensor
    test: Tensor


def split(labels: Tensor, train: int | None, validation: int, test: int, seed: int) -> Split:
    """Draws the parts stratified by class: exact totals, each class in proportion (largest remainder).

    labels: (N,) int64; images with label -1 can only be in the training part. train: how many to keep, None:
    all that are left. The test part depends on the seed and its own size alone, the validation part on these
    and its size. A smaller training part is among a larger one. Raises KdrunError for too few images, or only
    one class.
    """
    if (np.unique(labels) >= 0).sum() < 2:
        raise KdrunError("dataset", None, "all images are of one class; there is nothing to learn")
    strata = drawn(labels.numpy(), f"split {seed}")
    left = {c: rows for c, rows in strata.items() if c != UNLABELLED}
    tested, left = take(left, test, "dataset.test")
    validated, left = take(left, validation, "dataset.validation")
    if UNLABELLED in strata:
        left[UNLABELLED] = strata[UNLABELLED]
    rest = sum(map(len, left.values()))
    trained, _ = take(left, rest if train is None else train, "dataset.train")
    if len(trained) == 0:
        raise KdrunError("dataset.train", train, "no image is left to train on")
    return Split(*(torch.from_numpy(np.sort(part)) for part in (trained, validated, tested)))


def drawn(labels: Indices, words: str) -> Strata:
    """The positions of each class in an order drawn from `words` (a purpose and its seeds)."""
    digest = np.frombuffer(hashlib.sha256(words.encode()).digest(), "<u4")
    random = np.random.RandomState(digest.tolist())
    return {
        int(c): random.permutation(np.flatnonzero(labels == c)).astype(np.int64) for c in np.unique(labels)
    }


def take(strata: Strata, count: int, key: str) -> tuple[Indices, Strata]:
    """The first `count` images, each class in proportion to what it has, and what is left."""
    there = sum(map(len, strata.values()))
    if not 0 <= count <= there:
        raise KdrunError(key, count, f"must be between 0 and {there}, the images that are left")
    shares = dict(zip(strata, shared_out([len(rows) for rows in strata.values()], count), strict=True))
    first = [rows[: shares[c]] for c, rows in strata.items()]
    return np.concatenate([*first, np.empty(0, np.int64)]), {
        c: rows[shares[c] :] for c, rows in strata.items()
    }


def shared_out(sizes: list[int], count: int) -> list[int]:
    """Shares `count` among classes of these sizes in proportion, by largest remainder; ties go to the first.
    Only whole numbers, since a rounding error must not move an image.
    """
    total = sum(sizes)
    if total == 0:
        return [0] * len(sizes)
    shares = [count * size // total for size in sizes]
    by_remainder = sorted(range(len(sizes)), key=lambda place: -(count * sizes[place] % total))
    for place in by_remainder[: count - sum(shares)]:
        shares[place] += 1
    return shares


def labelled(labels: Tensor, setting: int | float | None, seed: int, label_seed: int) -> Tensor:
    """Which training images carry their label: (N,) bool. labels: (N,) int64 of the training part. setting:
    None for all, an int for that many of each class (those of a smaller count are among those of a larger
    one), a float for that fraction, stratified. The draw depends on the split's seed and `label_seed`. Raises
    KdrunError for more images of a class than there are.
    """
    known = labels != UNLABELLED
    if setting is None:
        return known
    strata = drawn(labels.numpy(), f"labels {seed} {label_seed}")
    strata.pop(UNLABELLED, None)
    if isinstance(setting, float):
        rows, _ = take(strata, max(1, round(setting * int(known.sum()))), "dataset.labelled")
        return mask(len(labels), rows)
    for number, rows in strata.items():
        if len(rows) < setting:
            problem = f"class {number} has {len(rows)} training images, fewer than {setting}"
            raise KdrunError("dataset.labelled", setting, problem)
    return mask(len(labels), np.concatenate([each[:setting] for each in strata.values()]))


def labelled_by_file(file: Path, parts: Split, images: int) -> Tensor:
    """Which training images carry their label, from a file with one position per line: (N,) bool. Positions
    count the source's own `images` training images from 0, as published subsets do; each must be in the
    training part. Raises KdrunError for anything else in the file.
    """
    rows = numbers(file)
    place_of = {int(row): at for at, row in enumerate(parts.train.tolist())}
    for line, row in enumerate(rows, 1):
        if row not in place_of:
            why = "it is held out" if 0 <= row < images else f"there are images 0 to {images - 1}"
            problem = f"index {row} (number {line}) is not in the training part: {why}"
            raise KdrunError("dataset.labelled", file, problem)
    if len(set(rows)) != len(rows):
        twice = next(row for row in rows if rows.count(row) > 1)
        raise KdrunError("dataset.labelled", file, f"index {twice} stands there more than once")
    return mask(len(parts.train), np.array([place_of[row] for row in rows], np.int64))


def numbers(file: Path) -> list[int]:
    """The whole numbers in a file, one per line; empty lines are skipped."""
    try:
        lines = expanded(file).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise KdrunError("dataset.labelled", file, "cannot be read as text") from error
    try:
        rows = [int(line) for line in lines if line.strip()]
    except ValueError as error:
        problem = f"one whole number per line is expected ({error})"
        raise KdrunError("dataset.labelled", file, problem) from error
    if not rows:
        raise KdrunError("dataset.labelled", file, "the file is empty")
    return rows


def mask(length: int, rows: Indices) -> Tensor:
    """(length,) bool, true at the rows."""
    chosen = torch.zeros(length, dtype=torch.bool)
    chosen[torch.from_numpy(rows)] = True
    return chosen
