"""What a student is compared with: trainings of its own architecture, from its own initial weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from kdrun.config.controls import as_trained, names, role
from kdrun.errors import KdrunError
from kdrun.plan.link import Link, alone, label_of, taught
from kdrun.plan.objective import Phase, controls_phases, students_phases
from kdrun.plan.training import Training

CALLS = 10e6
"""What the calls of a step cost, whatever the size of the model, in multiply-accumulates: 0.5 ms of a core.
It never changes, since the epochs of `longer` follow from it.
"""


def controls(student: Training, above: Sequence[Training] = ()) -> tuple[Training, ...]:
    """The controls that the student's run asks for, each after those that it needs.

    above: the teachers, assistants and generations above the student. Raises KdrunError if the student's
    architecture cannot take the teacher's place.
    """
    made: dict[str, Training] = {}
    for name in names(student.ground.run.control):
        if name == "self":
            made[name] = _taught_by(made["plain"], student)
        elif name == "longer":
            made[name] = _alone(name, student, _times(student, above))
        else:
            made[name] = _alone(name, student)
    return tuple(made.values())


def _alone(name: str, student: Training, times: float = 1.0) -> Training:
    """The same student without a teacher. times: how many times as long `longer` is trained."""
    run, model = student.ground.run, replace(student.model, reuse_classifier=False)
    recipe = as_trained(name, student.recipe, vars(run.controls), times)
    label = label_of("control", model.name, run.dataset["name"])
    link = Link(role(name), model, recipe, student.seed)
    return alone(student.ground, link, "control", label, controls_phases(name, run, recipe))


def _taught_by(plain: Training, student: Training) -> Training:
    """The student with the plain control in place of its teachers: Furlanello et al. 2018, one generation."""
    phases = tuple(_of_one_teacher(phase) for phase in students_phases(student.ground.run, student.recipe))
    link = Link(role("self"), student.model, student.recipe, student.seed)
    try:
        return taught(student.ground, link, phases, (plain,))
    except KdrunError as error:
        problem = f"the student's own architecture cannot take the teacher's place: {error}"
        raise KdrunError("control", "self", problem) from error


def _of_one_teacher(phase: Phase) -> Phase:
    """The phase without names of teachers: all terms read the one that there is."""
    loss = {name: {k: v for k, v in term.items() if k != "teacher"} for name, term in phase.loss.items()}
    return phase._replace(loss=loss)


def _times(student: Training, above: Sequence[Training]) -> float:
    """How many times the plain control's epochs `longer` is trained: as `controls.longer_epochs` says, or as
    many as cost what the distillation costs.

    The distillation is the training of all models above the student that are not loaded, and its own, with
    the teacher asked in every step.
    """
    epochs = student.ground.run.controls.longer_epochs
    if epochs != "auto":
        return float(epochs / student.recipe.epochs)
    trained = [each for each in (*above, student) if not each.loaded]
    return sum(map(_cost, trained)) / _cost(_alone("plain", student))


def _cost(training: Training) -> float:
    """Counted, so that it is the same on every machine: multiply-accumulates, and CALLS for each step."""
    return (training.macs + CALLS) * training.row_set().steps * training.epochs
