"""What a configuration may say of its models: teachers, students between, the student, the reference."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from kdrun.config.choices import COMBINED_BY, COMBINED_WEIGHTS, HEADS, STEMS
from kdrun.config.ranges import above_zero, at_least, number, one_of, refuse_unlisted_name, require
from kdrun.config.schema import Combine, Model, Reference, Run, TeacherModel
from kdrun.errors import KdrunError
from kdrun.figures import as_typed
from kdrun.paths import expanded

SURENESS = {
    "confidence": (0, 1),
    "most_confident": (0, 1),
    "entropy": (0, 1),
    "energy": (-math.inf, math.inf),
}
"""Weights that know how sure a teacher is, and the range of that."""

DESCRIBING = ("args", "checkpoint", "pretrained", "stem", "classes", "normalisation")
"""Keys of a reference that is a named model; a run has its own."""

MOST_POINTS = 100.0
"""The largest difference of two accuracies."""


def check_models(run: Run) -> None:
    """Raises KdrunError for the first value that cannot be meant."""
    for key, model in _named_models(run):
        _check_model(key, model, run.packages)
        if key != "student":
            problem = "only a student can reuse the classifier of its teacher: student.reuse_classifier=true"
            require(not model.reuse_classifier, f"{key}.reuse_classifier", "true", problem)
    for key, teacher in named_teachers(run).items():
        _check_teacher(key, teacher)
    problem = "an assistant is trained. To take one as it is, make it the teacher: teacher.checkpoint="
    for model in run.assistant:
        require(model.checkpoint is None, "assistant", model.name, problem)
    problem = "and student.checkpoint exclude each other: every generation begins with weights of its own"
    one_student = run.generations == 1 or run.student.checkpoint is None
    require(one_student, "generations", run.generations, problem)
    _check_combined(run)
    _check_reference(run.reference)


def named_teachers(run: Run) -> Mapping[str, TeacherModel]:
    """The teachers by their keys in the configuration: `teacher`, or `teachers.NAME` of several."""
    return {f"teachers.{name}": each for name, each in run.teachers.items()} or {"teacher": run.teacher}


def _named_models(run: Run) -> Iterator[tuple[str, Model]]:
    yield from named_teachers(run).items()
    yield "student", run.student
    yield from (("assistant", model) for model in run.assistant)
    if (reference := run.reference.as_teacher) is not None:
        yield "reference", reference


def _check_model(key: str, model: Model, packages: Collection[str]) -> None:
    refuse_unlisted_name(model.family, f"{key}.family", packages)
    one_of(f"{key}.stem", model.stem, STEMS)
    if model.seed is not None:
        at_least(f"{key}.seed", model.seed, 0)
    if model.checkpoint is not None:
        is_there = expanded(model.checkpoint).is_file()
        require(is_there, f"{key}.checkpoint", model.checkpoint, "no such file")
    _check_pretrained(key, model)
    at_least(f"{key}.projector_factor", model.projector_factor, 1)


def _check_pretrained(key: str, model: Model) -> None:
    own, value = f"{key}.pretrained", as_typed(model.pretrained)
    named = isinstance(model.pretrained, (bool, str)) and model.pretrained != ""
    require(named, own, value, "must be true, false or the name of weights (IMAGENET1K_V1)")
    if model.pretrained:
        require(model.checkpoint is None, own, value, f"and {key}.checkpoint exclude each other")
        problem = f"there are no weights of {model.name}, only of torchvision's and timm's models"
        require(model.family in ("torchvision", "timm"), own, value, problem)


def _check_teacher(key: str, teacher: TeacherModel) -> None:
    """What only teachers and references have."""
    above_zero(teacher.weight, f"{key}.weight")
    _check_head(key, teacher)
    if isinstance(teacher.classes, list):
        enough = len(teacher.classes) >= 2
        require(enough, f"{key}.classes", f"{teacher.classes}", "two classes or more are needed")
    elif teacher.classes is not None:
        _check_file(f"{key}.classes", teacher.classes, "A list of names, or a file with one name a line")
    if not (teacher.class_map is None or isinstance(teacher.class_map, Mapping)):
        problem = "A mapping from the teacher's classes to those of the data set, or a file with one"
        _check_file(f"{key}.class_map", teacher.class_map, problem)
    problem = (
        "is for a teacher that is loaded or has a data set of its own; one that is trained on the run's "
        f"has its classes: {key}.classes"
    )
    others = teacher.checkpoint or teacher.pretrained or teacher.dataset
    require(others or teacher.class_map is None, f"{key}.class_map", None, problem)
    _check_normalisation(f"{key}.normalisation", teacher.normalisation)


def _check_head(key: str, teacher: TeacherModel) -> None:
    """A teacher without a classifier is loaded, and has no classes."""
    one_of(f"{key}.head", teacher.head, HEADS)
    if teacher.head == "auto":
        return
    problem = f"a teacher that is trained here learns classes; {key}.checkpoint or {key}.pretrained is needed"
    require(teacher.checkpoint or teacher.pretrained, f"{key}.head", "none", problem)
    problem = f"a teacher without a head has no classes: {key}.head=none"
    for name in ("classes", "class_map"):
        require(getattr(teacher, name) is None, f"{key}.{name}", None, problem)


def _check_file(key: str, value: Any, needed: str) -> None:
    is_there = isinstance(value, str) and expanded(value).is_file()
    require(is_there, key, f"{value}", f"no such file. {needed}, is needed")


def _check_normalisation(key: str, value: Any) -> None:
    if value is None:
        return
    complete = isinstance(value, Mapping) and set(value) == {"mean", "std"}
    require(complete, key, f"{value}", "must be {mean: ..., std: ...}, for pixels from 0 to 1")
    for name, numbers in value.items():
        listed = numbers if isinstance(numbers, list) else [numbers]
        fits = listed and all(map(number, listed)) and (name == "mean" or min(listed) > 0)
        problem = "must be a number" + (" above 0" if name == "std" else "") + ", or one for each channel"
        require(fits, f"{key}.{name}", f"{numbers}", problem)


def _check_combined(run: Run) -> None:
    """What goes with several teachers only, and with one only."""
    combine, several = run.combine, len(run.teachers) > 1
    problem = "there is one teacher, so nothing is combined"
    require(several or combine == Combine(), "combine", None, problem)
    one_of("combine.by", combine.by, COMBINED_BY)
    one_of("combine.weights", combine.weights, COMBINED_WEIGHTS)
    if combine.least is not None:
        problem = f"combine.weights={combine.weights} does not know how sure a teacher is; these do"
        require(combine.weights in SURENESS, "combine.least", combine.least, problem, SURENESS)
        low, high = SURENESS[combine.weights]
        problem = f"must be between {low:g} and {high:g}"
        require(low <= combine.least <= high, "combine.least", combine.least, problem)
    if several:
        problem = f"goes with one teacher; there are {len(run.teachers)} ({', '.join(run.teachers)})"
        require(not run.peer, "peer", "true", problem)
        require(not run.student.reuse_classifier, "student.reuse_classifier", "true", problem)


def _check_reference(reference: Reference) -> None:
    problem = f"must be 0 to {MOST_POINTS:g} points"
    require(0 <= reference.margin <= MOST_POINTS, "reference.margin", reference.margin, problem)
    usual = Reference()
    given = [key for key in DESCRIBING if getattr(reference, key) != getattr(usual, key)]
    if (model := reference.as_teacher) is not None:
        problem = "reference=RUN names the model; leave it out"
        require(reference.run is None, "reference.model", reference.model, problem)
        problem = "a trained model is needed: reference.checkpoint=FILE, or reference.pretrained=true"
        require(model.checkpoint or model.pretrained, "reference.model", reference.model, problem)
        _check_teacher("reference", model)
    elif given:
        of_run = "the run says that itself; leave it out"
        of_none = f"of which model? reference.model=resnet50 reference.{given[0]}=..."
        raise KdrunError(f"reference.{given[0]}", None, of_none if reference.run is None else of_run)
    else:
        problem = "there is no reference: reference=RUN"
        idle = reference.run is None and reference.class_map is not None
        require(not idle, "reference.class_map", None, problem)
