"""Student and control trained for 8 bits: with labels, and with the teacher, from their trained weights.

Fake quantisation while a model is fine-tuned: Jacob et al. 2018. With a teacher's answers: Mishra & Marr 2018
(Apprentice, its third scheme), Polino et al. 2018.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from kdrun.config.schema import Int8Settings, Recipe
from kdrun.errors import KdrunError
from kdrun.models.quantised import quantised
from kdrun.plan.link import label_of
from kdrun.plan.objective import Phase, Terms, controls_phases, one_phase, smoothed
from kdrun.plan.training import ForInt8, Training

LABELS, TEACHER = "labels", "teacher"
"""Who teaches a model its 8 bits."""

HINTON: Terms = {
    "hard": {"name": "cross_entropy", "weight": 0.1},
    "soft": {"name": "soft_targets", "weight": 0.9, "temperature": 4.0},
}
"""What a teacher teaches if the run's own loss reads more than logits: its adapters are not kept."""

SLOWER = 0.1
"""The learning rate, as a share of the student's recipe's, if none is given."""


def name_of(role: str, by: str) -> str:
    """The name of a training. role: student or control."""
    return f"int8_{role}_{by}"


def int8_trainings(student: Training, control: Training | None) -> Iterator[Training]:
    """The four trainings for 8 bits; none if they are not asked for. Raises KdrunError."""
    run = student.ground.run
    if run.quantise is None or control is None:
        return
    recipe = fine_tuning(student.recipe, run.int8)
    phases = {LABELS: controls_phases("plain", run, recipe), TEACHER: _taught(student, recipe)}
    for role, began in (("student", student), ("control", control)):
        bits = run.int8.weight_bits
        model = quantised(began.built.model, student.ground.data.image_shape, bits)
        built = began.built._replace(model=model)
        for by, own in phases.items():
            taught = by == TEACHER
            yield replace(
                student,
                name=name_of(role, by),
                kind="student" if taught else "control",
                label=label_of("int8", began.model.name, run.dataset["name"]),
                model=began.model,
                recipe=recipe,
                phases=own,
                built=built,
                teachers=student.teachers if taught else (),
                several=student.several if taught else None,
                peer=None,
                momentum_delta=student.momentum_delta if taught else None,
                for_int8=ForInt8(began, bits),
            ).with_mixes()


def fine_tuning(recipe: Recipe, settings: Int8Settings) -> Recipe:
    """The recipe of all four: the student's optimiser for a few epochs at a low rate, which falls to zero."""
    share = isinstance(settings.epochs, float)
    epochs = max(1, round(settings.epochs * recipe.epochs)) if share else settings.epochs
    lr = SLOWER * recipe.lr if settings.lr is None else settings.lr
    return replace(recipe, epochs=epochs, lr=lr, schedule="cosine", warmup=0.0, milestones=[], stop_at=None)


def _taught(student: Training, recipe: Recipe) -> tuple[Phase, ...]:
    """The run's own loss as it is in the last epoch, or HINTON if that reads more than logits."""
    run, mix = student.ground.run, student.mixes[-1]
    if not any(each.needs.teacher for each in student.mixes):
        raise KdrunError(
            "quantise", "int8", f"no term of method {run.method} reads the teacher: nothing is distilled"
        )
    simple = mix.needs.teacher == mix.needs.student == {"logits"} and not list(mix.parameters())
    if simple:
        return one_phase(smoothed(_at_the_end(run.loss), recipe), recipe)
    if student.several is not None:
        problem = "with several teachers needs a method that reads only their logits"
        raise KdrunError("quantise", "int8", problem)
    return one_phase(smoothed(HINTON, recipe), recipe)


def _at_the_end(value: Any) -> Any:
    """The value with each schedule at its end."""
    if not isinstance(value, Mapping):
        return value
    return value["to"] if "to" in value else {key: _at_the_end(inner) for key, inner in value.items()}
