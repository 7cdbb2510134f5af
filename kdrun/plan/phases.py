"""The phases of a training, each with a loss of its own, one after the other within the recipe's epochs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from kdrun.config.schema import Recipe, Run
from kdrun.errors import KdrunError
from kdrun.losses.mix import Mix, make_mix
from kdrun.plan.objective import Loss, epochs_of, smoothed, students_loss


class Phase(NamedTuple):
    """The epochs of a training from `first` to before `until`, and what is minimised in them.

    key: below which the terms are written.
    """

    loss: Loss
    first: int
    until: int
    key: str = "loss"


def only(loss: Loss, recipe: Recipe) -> tuple[Phase, ...]:
    """One loss from the first epoch to the last."""
    return (Phase(loss, 0, epochs_of(recipe)),)


def students_phases(run: Run, recipe: Recipe) -> tuple[Phase, ...]:
    """Those of one that is taught: one, or two where the run has a `phase_one`."""
    until, change = epochs_of(recipe), _change(run.phase_one.epochs, recipe.epochs)
    last = Phase(students_loss(run, recipe), change, until)
    if not change:
        return (last,)
    return (Phase(smoothed(run.phase_one.loss, recipe), 0, min(change, until), "phase_one.loss"), last)


def _change(epochs: float, of: int) -> int:
    """How many epochs phase one takes, one at least where there is one more."""
    wanted = max(1, round(epochs * of)) if isinstance(epochs, float) else epochs
    return min(wanted, of - 1)


def equation(phases: Sequence[Phase], mixes: Sequence[Mix]) -> str:
    """What is minimised, as the screen shows it: `50 FSP(3 stages) for 10 epochs, then CE`."""
    *earlier, last = (mix.equation() for mix in mixes)
    stretches = [
        f"{text} for {phase.until - phase.first} epoch{'s' * (phase.until - phase.first != 1)}"
        for text, phase in zip(earlier, phases, strict=False)
    ]
    return ", then ".join([*stretches, last])


def refuse_one_momentum(run: Run) -> None:
    """Raises KdrunError where there are to be two momenta and all terms are of one kind."""
    if run.momentum_delta is None:
        return
    for key, loss in (("loss", run.loss), ("phase_one.loss", run.phase_one.loss)):
        terms = {name: {**term, "weight": 1.0} for name, term in loss.items()}  # alpha=0 leaves none out
        kinds = {bool(term.loss.needs.teacher) for term in make_mix(terms, key).terms} if terms else set()
        if len(kinds) == 2:
            return
    problem = "has no effect: there must be terms that read the teacher and terms that do not"
    raise KdrunError("momentum_delta", run.momentum_delta, problem)


def refuse_unprepared(mixes: Sequence[Mix]) -> None:
    """Raises KdrunError for a term whose adapters no first phase trains."""
    *earlier, last = mixes
    before = {(term.name, type(term.loss)) for mix in earlier for term in mix.terms}
    for term in last.terms:
        if term.loss.prepared and (term.name, type(term.loss)) not in before:
            key = f"phase_one.loss.{term.name}"
            problem = f"is missing: a first phase must train what loss.{term.name} compares"
            raise KdrunError(key, None, problem)


def refuse_mutual(run: Run, mixes: Sequence[Mix]) -> None:
    """Raises KdrunError for what a peer in place of the teacher rules out."""
    if not any(mix.mutual for mix in mixes):
        return
    two = "two that teach each other"
    if run.stages == ["teacher"]:
        problem = (
            f"method {run.method} has no teacher to train before: a peer is trained in the stage student"
        )
        raise KdrunError("stages", "[teacher]", problem)
    if run.assistant:
        raise KdrunError("assistant", run.assistant[0].name, f"there is nobody in between {two}")
    if run.generations > 1:
        raise KdrunError("generations", run.generations, f"there are no generations of {two}")
    if len(mixes) > 1:
        raise KdrunError("phase_one.epochs", run.phase_one.epochs, f"there is no first phase for {two}")
    if run.momentum_delta is not None:
        raise KdrunError("momentum_delta", run.momentum_delta, f"{two} have one momentum each")
    if any(mix.reuses_classifier for mix in mixes):
        raise KdrunError("loss", None, f"neither of {two} can be read by the other's classifier")
