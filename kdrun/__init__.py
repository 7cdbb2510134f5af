"""Distil image classifiers: a teacher, a student, and always a control."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from kdrun.predictor import Classifier

__version__ = "0.1.0"


def load(run: str | Path, teacher: bool = False, packages: Iterable[str] = ()) -> Classifier:
    """A finished run's student, ready for use: its `model` (in evaluation mode), `classes`, `preprocess`
    (a Pillow picture or a path to a tensor) and `predict`.

    run: its folder, or its `student.safetensors`. teacher: the run's teacher instead. packages: of your own,
    if the model is from one: nothing is imported because a file says so. Raises KdrunError.
    """
    from kdrun.predictor import load as load_classifier

    return load_classifier(run, teacher, packages)
