"""The models of a run as networks that take the run's images and return logits over its classes."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from torch import nn

from kdrun.models.class_relation import Related, Relation
from kdrun.models.seen import seen
from kdrun.plan.ground import sight
from kdrun.plan.training import Training
from kdrun.stages.saved import Saved, load_model
from kdrun.training.several import Ensemble, Together

TOGETHER = "teacher"
"""The role of several teachers as one in a report."""


def network_of(student: Training, saved: Saved, weights: str | None = None) -> nn.Module:
    """A model of a student's run. A teacher with other images or classes is adapted to the student's.

    student: it learns from the teachers. weights: `last` or `val_best`; None: those of the headline.
    """
    training = saved.training
    model = load_model(saved, weights or training.ground.headline)
    model = seen(model, sight(student.ground.data), sight(training.ground.data))
    relation = _relation(student, training)
    if relation is None or training.headless:
        return model
    return nn.Sequential(model, Related(relation).to(student.ground.machine.device))


def is_adapted(student: Training, saved: Saved) -> bool:
    """Whether `network_of` adapts the model to images or classes of the student."""
    training = saved.training
    other_images = sight(student.ground.data) != sight(training.ground.data)
    return other_images or _relation(student, training) is not None


def _relation(student: Training, teacher: Training) -> Relation | None:
    """How a teacher's classes relate to those of its student, if they are others."""
    if student.several is None or teacher not in student.teachers:
        return None
    relation = student.several.asked[student.teachers.index(teacher)].relation
    return None if relation.same else relation


def is_together(student: Training, there: Collection[str]) -> bool:
    """Whether several teachers can answer as one without labels, and all exist. there: names of models."""
    if student.several is None or not student.several.answers_images:
        return False
    return all(teacher.name in there for teacher in student.teachers)


def ensemble_of(student: Training, networks: Mapping[str, nn.Module]) -> nn.Module | None:
    """Several teachers as one network; None if they cannot be one. networks: by the name of the training."""
    several = student.several
    if several is None or not is_together(student, networks):
        return None
    own = [networks[teacher.name] for teacher in student.teachers]
    return Ensemble(own, Together(several.asked, several.how).to(student.ground.machine.device))
