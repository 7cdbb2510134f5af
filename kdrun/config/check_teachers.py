"""What a configuration may say of several teachers, or of one with other classes than the data set."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from kdrun.artefacts import typed_path
from kdrun.config.choices import COMBINED_BY, COMBINED_WEIGHTS, HEADS
from kdrun.config.schema import Combine, Run, Teacher
from kdrun.errors import KdrunError

SURENESS = {
    "confidence": (0, 1),
    "most_confident": (0, 1),
    "entropy": (0, 1),
    "energy": (-math.inf, math.inf),
}
"""Weights that know how sure a teacher is, and the range of that."""


def named_teachers(run: Run) -> Mapping[str, Teacher]:
    """The teachers by their keys in the configuration: `teacher`, or `teachers.NAME` of several."""
    return {f"teachers.{name}": each for name, each in run.teachers.items()} or {"teacher": run.teacher}


def check_teachers(run: Run) -> None:
    """Raises KdrunError for the first value that cannot be meant."""
    for key, teacher in named_teachers(run).items():
        check_teacher(key, teacher)
    several = len(run.teachers) > 1
    if not several and run.combine != Combine():
        raise KdrunError("combine", None, "there is one teacher, so nothing is combined")
    _combine(run.combine)
    if several:
        _alone(run)


def _combine(combine: Combine) -> None:
    for key, value, choices in (
        ("combine.by", combine.by, COMBINED_BY),
        ("combine.weights", combine.weights, COMBINED_WEIGHTS),
    ):
        if value not in choices:
            raise KdrunError(key, value, "no such choice", choices)
    if combine.least is None:
        return
    if combine.weights not in SURENESS:
        problem = f"combine.weights={combine.weights} does not know how sure a teacher is; these do"
        raise KdrunError("combine.least", combine.least, problem, list(SURENESS))
    low, high = SURENESS[combine.weights]
    if not low <= combine.least <= high:
        raise KdrunError("combine.least", combine.least, f"must be between {low:g} and {high:g}")


def check_teacher(key: str, teacher: Teacher) -> None:
    """Raises KdrunError for what cannot be meant of one teacher, whose keys are below `key`."""
    if not 0 < teacher.weight < math.inf:
        raise KdrunError(f"{key}.weight", teacher.weight, "must be above 0")
    _head(key, teacher)
    if isinstance(teacher.classes, list):
        if len(teacher.classes) < 2:
            raise KdrunError(f"{key}.classes", f"{teacher.classes}", "two classes or more are needed")
    elif teacher.classes is not None:
        _file(f"{key}.classes", teacher.classes, "a list of names, or a file with one name a line")
    if not (teacher.class_map is None or isinstance(teacher.class_map, Mapping)):
        problem = "a mapping from the teacher's classes to those of the data set, or a file with one"
        _file(f"{key}.class_map", teacher.class_map, problem)
    if teacher.class_map is not None and not (teacher.checkpoint or teacher.pretrained or teacher.dataset):
        problem = (
            "is for a teacher that is loaded or has a data set of its own; one that is trained on the run's "
            "has its classes"
        )
        raise KdrunError(f"{key}.class_map", None, f"{problem}: {key}.classes")
    _normalisation(f"{key}.normalisation", teacher.normalisation)


def _head(key: str, teacher: Teacher) -> None:
    """A teacher without a classifier is loaded, and has no classes."""
    if teacher.head not in HEADS:
        raise KdrunError(f"{key}.head", teacher.head, "no such choice", HEADS)
    if teacher.head == "auto":
        return
    if not (teacher.checkpoint or teacher.pretrained):
        problem = (
            f"a teacher that is trained here learns classes; {key}.checkpoint or {key}.pretrained is needed"
        )
        raise KdrunError(f"{key}.head", "none", problem)
    for name in ("classes", "class_map"):
        if getattr(teacher, name) is not None:
            raise KdrunError(
                f"{key}.{name}", None, f"a teacher without a head has no classes: {key}.head=none"
            )


def _file(key: str, value: Any, needed: str) -> None:
    if not isinstance(value, str) or not typed_path(value).is_file():
        raise KdrunError(key, f"{value}", f"no such file. {needed[0].upper()}{needed[1:]}, is needed")


def _normalisation(key: str, value: Any) -> None:
    if value is None:
        return
    if not isinstance(value, Mapping) or set(value) != {"mean", "std"}:
        raise KdrunError(key, f"{value}", "must be {mean: ..., std: ...}, for pixels from 0 to 1")
    for name, numbers in value.items():
        listed = numbers if isinstance(numbers, list) else [numbers]
        plain = [n for n in listed if isinstance(n, (int, float)) and not isinstance(n, bool)]
        if len(plain) != len(listed) or not plain or (name == "std" and min(plain) <= 0):
            problem = "must be a number" + (" above 0" if name == "std" else "") + ", or one for each channel"
            raise KdrunError(f"{key}.{name}", f"{numbers}", problem)


def _alone(run: Run) -> None:
    """What goes with one teacher only."""
    several = f"goes with one teacher; there are {len(run.teachers)} ({', '.join(run.teachers)})"
    if run.peer:
        raise KdrunError("peer", "true", several)
    if run.student.reuse_classifier:
        raise KdrunError("student.reuse_classifier", "true", several)
