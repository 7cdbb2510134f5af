"""Distil image classifiers: a teacher, a student, and always a control."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from kdrun.predictor import Classifier

__version__ = "0.2.0"


def load(run: str | Path, teacher: bool = False, packages: Iterable[str] = ()) -> Classifier:
    """The student of a finished run: its `model` (in evaluation mode), `classes`, `preprocess` and `predict`.

    `preprocess` turns a Pillow picture or a path into a tensor. run: the run's folder, or its
    `student.safetensors`. teacher: loads the run's teacher instead. packages: your own, if the model is from
    one; others are not imported, even if a file names them. Raises KdrunError.
    """
    from kdrun.predictor import load as load_classifier

    return load_classifier(run, teacher, packages)
