"""The logits of a finished run's teacher for test images, or for pictures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from kdrun.data.batches import plain_batches
from kdrun.data.images import ImageSet, Part, small
from kdrun.errors import KdrunError
from kdrun.evaluation.accuracy import logits_of
from kdrun.figures import plural
from kdrun.predictor import Classifier, load
from kdrun.report import soft
from kdrun.report.read import read
from kdrun.report.thumbnails import SIDE
from kdrun.run_data import data_of


class Looked(NamedTuple):
    """Images with a teacher's logits. names: of the images. pixels: (N, C, h, w) uint8, small, to be shown.
    truths: the names of the true classes; None for pictures. logits: (N, K) of the teacher. student: the
    classes that the student predicts. classes: of the logits. rule: how the images were chosen.
    """

    names: list[str]
    pixels: Tensor
    truths: list[str] | None
    logits: Tensor
    student: list[str]
    classes: tuple[str, ...]
    rule: str


class RunModels(NamedTuple):
    """The teacher and the student of a run."""

    teacher: Classifier
    student: Classifier


def models(run: Path, packages: Iterable[str] = ()) -> RunModels:
    """The teacher and the student of a finished run. Raises KdrunError if one is missing."""
    names = tuple(packages)
    return RunModels(load(run, teacher=True, packages=names), load(run, packages=names))


def test_part(run: Path, packages: Iterable[str] = ()) -> ImageSet:
    """The data set of a finished run with its test part, read again as the run read it. packages: your own,
    if it is from one. Raises KdrunError if it is missing, or its test part has another number of images now.
    """
    report = read(run)
    data = data_of(report, tuple(packages))
    there, answered = len(data.test.labels), report["dataset"].get("test", 0)
    if there != answered:
        problem = f"the test part has {there} images now; the run answered {answered}"
        raise KdrunError(str(run), None, problem)
    return data


def of_each_class(
    data: ImageSet, both: RunModels, name: str | None, count: int, temperature: float
) -> Looked:
    """The `count` test images of one class, or of each, whose soft targets have the highest entropy. Raises
    KdrunError for an unknown class, or one without test images.
    """
    if name is not None and name not in data.classes:
        raise KdrunError("--class", name, "no such class", data.classes)
    labels = data.test.labels
    chosen = labels >= 0 if name is None else labels == data.classes.index(name)
    rows = chosen.nonzero()[:, 0]
    if not len(rows):
        raise KdrunError("--class", name, "no test image has this class")
    places = soft.most_uncertain(_logits(both.teacher, data, rows), labels[rows], temperature, count)
    whose = "of each class" if name is None else f"of class {name}"
    rule = f"{whose} the {plural(count, 'test image')} of highest entropy at T = {temperature:g}"
    return of_rows(data, both, rows[places].tolist(), f"{rule}, right or wrong")


def of_rows(
    data: ImageSet, both: RunModels, rows: Sequence[int], rule: str = "test images by number"
) -> Looked:
    """Test images by their positions in the test part. Raises KdrunError for a wrong position."""
    count = len(data.test.labels)
    if wrong := [row for row in rows if not 0 <= row < count]:
        problem = f"the test images are 0 to {count - 1}, as in errors.csv"
        raise KdrunError("--image", wrong[0], problem)
    chosen = torch.tensor(rows)
    answers = _logits(both.student, data, chosen).argmax(1).tolist()
    labels = data.test.labels[chosen].tolist()
    return Looked(
        [f"image {row}" + (f" {data.test_files[row]}" if data.test_files else "") for row in rows],
        small(data.test.images[chosen], data.white, SIDE),
        [data.classes[label] if label >= 0 else "unknown" for label in labels],
        _logits(both.teacher, data, chosen),
        [both.student.classes[place] for place in answers],
        both.teacher.classes,
        rule,
    )


def of_pictures(both: RunModels, files: Sequence[str]) -> Looked:
    """The user's pictures. Raises KdrunError for a file that is not a picture."""
    preprocess = both.teacher.preprocess
    images = torch.stack([preprocess(file) for file in files])
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (preprocess.mean, preprocess.std))
    answers = both.student.logits(images).argmax(1).tolist()
    return Looked(
        list(files),
        small(images * std + mean, 1.0, SIDE),
        None,
        both.teacher.logits(images),
        [both.student.classes[place] for place in answers],
        both.teacher.classes,
        "pictures, as the models see them",
    )


def _logits(model: Classifier, data: ImageSet, rows: Tensor) -> Tensor:
    """(N, K) logits of test images, preprocessed as in the run's evaluation."""
    part = Part(data.test.images[rows], data.test.labels[rows])
    return logits_of(model.model, plain_batches(part, data, torch.device("cpu"))())
