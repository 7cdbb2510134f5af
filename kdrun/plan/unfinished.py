"""Notes on schedules, warm-ups and phases that are longer than the training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from kdrun.figures import as_typed, plural
from kdrun.plan.plan import Plan
from kdrun.plan.training import Training
from kdrun.schedule import Schedule


def unfinished(plan: Plan) -> list[str]:
    """A note for each; a control's are the student's, and what is loaded has none."""
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
                    taken = f"takes {plural(schedule.epochs, 'epoch')}"
                    yield f"the schedule of {key} {taken}, but {_until(training, phase.until, end)}{reached}"


def _until(training: Training, until: int, end: str) -> str:
    return end if until == training.epochs else f"its phase ends after {plural(until, 'epoch')}"


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
