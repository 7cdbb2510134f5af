"""Notes on plans that can run but look wrong: models of very different sizes, missing classes, and schedules,
warm-ups and phases that are longer than the training.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch

from kdrun.data.images import Part
from kdrun.evaluation.cost import params
from kdrun.figures import as_typed, plural, short
from kdrun.plan.plan import Plan
from kdrun.plan.training import Training
from kdrun.schedule import Schedule

FAR = 50
"""A chosen teacher may be this many times as large as a student that nobody chose."""

NAMED = 3
"""The most missing classes that are named."""


def mismatched(plan: Plan) -> list[str]:
    """A note for each mismatch of models and of classes."""
    return [*_sizes(plan), *_classes(plan)]


def _sizes(plan: Plan) -> Iterator[str]:
    """A note if one role was chosen, the other has the data set's model, and their sizes do not match."""
    left = plan.run.remarks.by_data_set
    if len(left) != 1 or plan.run.quick:
        return
    teacher, student = plan.chain[0], plan.chain[-1]
    sizes = {"teacher": params(teacher.built.model), "student": params(student.built.model)}
    (role,) = left
    other = "student" if role == "teacher" else "teacher"
    names = {"teacher": teacher.model.name, "student": student.model.name}
    if sizes["student"] < sizes["teacher"] <= FAR * sizes["student"]:
        return
    found = (
        f"the {role} is still {names[role]} ({short(sizes[role])} parameters), beside {names[other]} "
        f"({short(sizes[other])}): choose one"
    )
    if names[role] == names[other]:
        how = "larger" if role == "teacher" else "smaller"
        found = (
            f"teacher and student are both {names[role]} ({short(sizes[role])} parameters), the {role} by "
            f"data set: choose a {how} one"
        )
    yield f"{found} with {role}=NAME (kdrun list models)"


def _classes(plan: Plan) -> Iterator[str]:
    """A note for each part without images of some classes; not in a trial, which has too few images."""
    data = plan.ground.data
    parts = {"validation": data.validation, "test": data.test, "the labelled training images": data.train}
    for name, part in parts.items() if not plan.run.quick else ():
        absent = [data.classes[number] for number in _absent(part, len(data.classes))]
        if absent and len(part.labels):
            named = ", ".join(absent[:NAMED]) + (" ..." if len(absent) > NAMED else "")
            verb = "is" if len(absent) == 1 else "are"
            classes = plural(len(absent), "class", "classes")
            yield f"{classes} of {len(data.classes)} {verb} missing in {name}: {named}"


def _absent(part: Part, classes: int) -> list[int]:
    known = part.labels[part.labels >= 0]
    counts = torch.bincount(known, minlength=classes)
    return torch.nonzero(counts == 0).flatten().tolist()


def unfinished(plan: Plan) -> list[str]:
    """A note for each schedule, warm-up and phase that is cut off. A control's are the student's, and what is
    loaded has none.
    """
    trained = [t for t in plan.concerned if not t.loaded and not t.is_control]
    return list(dict.fromkeys(note for training in trained for note in _notes(training)))


def _notes(training: Training) -> Iterator[str]:
    end = f"the {training.name} stops after {plural(training.epochs, 'epoch')}"
    yield from _rates(training, end)
    if len(training.phases) > 1 and training.phases[0].until >= training.epochs:
        yield f"phase_one takes all epochs ({end}): the loss after it is never used"
    shared = _shared(training)
    for phase, mix in zip(training.phases, training.mixes, strict=True):
        for term in mix.terms:
            for name, schedule in {"weight": term.weight, **term.others}.items():
                if _is_cut(schedule, phase.until):
                    key = shared.get((name, schedule.epochs), f"{phase.key}.{term.name}.{name}")
                    last = schedule.at(phase.until - 1)
                    reached = "" if key == "alpha" else f": it reaches only {last:.4g}"
                    takes = f"the schedule of {key} takes {plural(schedule.epochs, 'epoch')}"
                    early = f"its phase ends after {plural(phase.until, 'epoch')}"
                    yield f"{takes}, but {end if phase.until == training.epochs else early}{reached}"


def _is_cut(schedule: Schedule, epochs: int) -> bool:
    """Whether a training of `epochs` epochs ends before the schedule."""
    if schedule.constant:
        return False
    return schedule.epochs > (epochs - 1 if schedule.shape == "step" else epochs)


def _shared(training: Training) -> Mapping[tuple[str, float], str]:
    """The shared keys with a schedule, by the argument of a term that they set and their epochs."""
    run = training.ground.run
    keys: dict[str, tuple[str, Any]] = {
        "temperature": ("temperature", run.temperature),
        "alpha": ("weight", run.alpha),
    }
    return {
        (name, float(value["epochs"])): key
        for key, (name, value) in keys.items()
        if isinstance(value, Mapping)
    }


def _rates(training: Training, end: str) -> Iterator[str]:
    """Warm-ups that fill the training, and milestones after its last epoch."""
    section = "teacher" if training.kind == "teacher" else training.section
    recipe, key = training.recipe, f"recipe.{section}"
    warm = recipe.warmup * recipe.epochs
    if recipe.schedule in ("cosine", "onecycle") and warm and warm >= training.epochs:
        yield f"the warm-up of {key} takes {plural(round(warm, 1), 'epoch')}, but {end}: its rate never falls"
    late = [milestone for milestone in recipe.milestones if milestone >= recipe.epochs]
    if recipe.schedule == "step" and late:
        yield f"{key}.milestones={as_typed(late)} are never reached: it has {plural(recipe.epochs, 'epoch')}"
