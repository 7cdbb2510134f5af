"""The errors of a run's models, from the answers that it keeps: by class, by pair of classes, by image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdrun.artefacts import write_text
from kdrun.config.choices import PLAIN
from kdrun.report.answers import Answers, confusion
from kdrun.report.schema import Confused, PerClass
from kdrun.report.tables import as_csv

FILE = "errors.csv"
PAIRS = 20
"""Pairs of confused classes that a report keeps."""

SHARE, TRUTH = "probability", "truth"
"""Arrays beside `test/student`: the student's probability for its answer, and for the true class."""


def facts(answers: Answers, control: str = PLAIN) -> dict[str, Any]:
    """`per_class` and `confused` of a report; empty without answers of the student to labelled images.

    control: the role that gains and losses are counted against.
    """
    labels = answers.get("test/labels")
    if labels is None or "test/student" not in answers or not (labels >= 0).any():
        return {}
    matrix = confusion(answers, "student")
    assert matrix is not None
    most = pairs(matrix, list(map(str, answers["classes"])))
    return {"per_class": per_class(answers, control), "confused": most}


def per_class(answers: Answers, control: str = PLAIN) -> PerClass:
    """Of each class that has test images: how many, and how many each model has right.

    gained: images that the student has right and the control wrong; lost: the other way round. Both are
    absent without a control.
    """
    labels, names = answers["test/labels"], answers["classes"]
    counts = _count(labels, labels >= 0, len(names))
    there = np.flatnonzero(counts)
    hits = {role: (answers[f"test/{role}"] == labels) & (labels >= 0) for role in _roles(answers)}

    def by_class(chosen: NDArray[np.bool_]) -> list[int]:
        return list(_count(labels, chosen, len(names))[there].tolist())

    counted = PerClass(
        names=list(map(str, names[there])),
        images=counts[there].tolist(),
        right={role: by_class(right) for role, right in hits.items()},
    )
    if control in hits:
        counted["gained"] = by_class(hits["student"] & ~hits[control])
        counted["lost"] = by_class(hits[control] & ~hits["student"])
    return counted


def pairs(matrix: NDArray[np.int64], classes: Sequence[str]) -> list[Confused]:
    """The most frequent pairs of a true class and a wrong answer: of the counts beside the diagonal of a
    matrix (K, K) the PAIRS largest.
    """
    wrong = matrix * ~np.eye(len(matrix), dtype=bool)
    order = np.argsort(-wrong, axis=None, kind="stable")[:PAIRS].tolist()
    return [
        Confused(truth=classes[row], answer=classes[column], images=int(wrong[row, column]))
        for row, column in (divmod(place, len(matrix)) for place in order)
        if wrong[row, column]
    ]


def surest(answers: Answers) -> list[int]:
    """The test images that the student has wrong, the surest first; without probabilities, in order."""
    labels, student = answers.get("test/labels"), answers.get("test/student")
    if labels is None or student is None:
        return []
    wrong = np.flatnonzero((labels >= 0) & (student != labels))
    shares = answers.get(f"test/student/{SHARE}")
    if shares is not None:
        wrong = wrong[np.argsort(-np.nan_to_num(shares[wrong], nan=-1.0), kind="stable")]
    return list(wrong.tolist())


def write(folder: Path, answers: Answers, files: Sequence[str] = ()) -> None:
    """Writes errors.csv. files: the paths of the test images, if they are from files."""
    if "test/student" in answers:
        write_text(folder / FILE, as_csv(_rows(answers, files)))


def _rows(answers: Answers, files: Sequence[str]) -> Iterator[list[str]]:
    """A head, and a line for each test image that the student has wrong, the surest first."""
    others = [role for role in _roles(answers) if role != "student"]
    file = ["file"] if files else []
    yield ["image", *file, "truth", "student", "p_student", "p_truth", *others]
    names = [*map(str, answers["classes"]), ""]  # -1: no answer
    for row in surest(answers):
        where = [files[row]] if files else []
        shares = [_share(answers, what, row) for what in (SHARE, TRUTH)]
        named = [names[answers[f"test/{role}"][row]] for role in ("labels", "student")]
        yield [str(row), *where, *named, *shares, *(names[answers[f"test/{role}"][row]] for role in others)]


def _share(answers: Answers, what: str, row: int) -> str:
    values = answers.get(f"test/student/{what}")
    return "" if values is None or not np.isfinite(values[row]) else f"{values[row]:.4f}"


def _roles(answers: Answers) -> list[str]:
    """The models with answers to test images, in the order of the file."""
    names = [name.removeprefix("test/") for name in answers if name.startswith("test/")]
    return [name for name in names if "/" not in name and name != "labels"]


def _count(labels: NDArray[Any], chosen: NDArray[np.bool_], classes: int) -> NDArray[np.int64]:
    return np.bincount(labels[chosen].astype(np.int64), minlength=classes)
