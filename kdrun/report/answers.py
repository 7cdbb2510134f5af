"""answers.npz, beside report.json: the class that each model predicts for each image of validation and test.

Arrays by name: `classes` (K,) names; `test/labels` (N,) true classes, -1 if unknown; `test/student` (N,) the
classes that the student predicts under the report's headline, -1 if its logits are not finite. Classes are
integers.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdrun.artefacts import write_whole

NAME = "answers.npz"
PARTS = ("validation", "test")

Arrays = dict[str, NDArray[Any]]
"""The arrays of a file by name; empty if there is none."""

Answers = Arrays


def write(folder: Path, answers: Answers, kept: Collection[str] = ()) -> None:
    """Writes the file. kept: models whose answers of an earlier evaluation stay in it."""
    earlier = read(folder) if kept else {}
    old = {name: earlier[name] for part in PARTS for whose in kept if (name := f"{part}/{whose}") in earlier}
    every = {name: values for name, values in old.items() if _fits(answers, name, values)} | answers
    small = {name: _small(values) for name, values in every.items()}
    write_arrays(folder / NAME, small)


def read(folder: Path) -> Answers:
    """The answers in a run's folder; empty without the file, or if it cannot be read."""
    return read_arrays(folder / NAME)


def right(answers: Answers, whose: str, part: str) -> NDArray[np.bool_] | None:
    """(N,) whether a model is right, for each image with a known class; None without its answers."""
    named, labels = answers.get(f"{part}/{whose}"), answers.get(f"{part}/labels")
    if named is None or labels is None:
        return None
    hits: NDArray[np.bool_] = named == labels
    return hits[labels >= 0]


def confusion(answers: Answers, whose: str) -> NDArray[np.int64] | None:
    """(K, K) counts on test: rows are true classes, columns answers; None without the model's answers."""
    named, labels = answers.get(f"test/{whose}"), answers.get("test/labels")
    if named is None or labels is None:
        return None
    known, classes = (labels >= 0) & (named >= 0), len(answers["classes"])
    cells = labels[known].astype(np.int64) * classes + named[known]
    return np.bincount(cells, minlength=classes * classes).reshape(classes, classes)


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Writes the file: whole, or not at all."""

    def save(part: Path) -> None:
        with part.open("wb") as file:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]

    write_whole(path, save)


def read_arrays(path: Path) -> Arrays:
    """The arrays of a file; empty without the file, or if it cannot be read."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return dict(file)
    except (OSError, ValueError, EOFError, KeyError, RuntimeError, zipfile.BadZipFile, zlib.error):
        return {}


def _fits(answers: Answers, name: str, values: NDArray[Any]) -> bool:
    """Whether earlier answers are for as many images as the present ones."""
    labels = answers.get(f"{name.partition('/')[0]}/labels")
    return labels is not None and len(labels) == len(values)


def _small(values: NDArray[Any]) -> NDArray[Any]:
    if values.dtype.kind != "i" or not len(values):
        return values
    return values.astype(np.min_scalar_type(-1 - int(values.max())))
