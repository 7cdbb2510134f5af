"""Finds damaged files of trainings, and prepares these trainings to run again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from kdrun.artefacts import locked, set_aside
from kdrun.errors import KdrunError
from kdrun.models.weights import damage
from kdrun.plan.plan import Plan
from kdrun.plan.training import Training
from kdrun.records import Damaged, read_mark
from kdrun.stages.saved import finished, state_file, weights_file
from kdrun.training.checkpoint import read_state

ASIDE = "state.damaged"
"""The new name of a state that cannot be read."""


def healed(plans: Iterable[Plan]) -> list[str]:
    """A line for each damaged file. Its training is ready to start over afterwards.

    Raises KdrunError for a file of a training that these plans do not make.
    """
    several = list(plans)
    made = {training.folder for plan in several for each in plan.rounds for training in each}
    trainings = {training.folder: training for plan in several for training in plan.every}
    lines = [line for folder, each in trainings.items() for line in _healed(each, folder in made)]
    return list(dict.fromkeys(lines))


def _healed(training: Training, is_made: bool) -> Iterator[str]:
    if training.loaded:
        return
    problem = damaged(training)
    if problem is not None:
        if not is_made:
            kind = "teacher" if training.kind == "teacher" else "student"
            raise KdrunError(problem.key, None, f"{problem.args[2]}; the stage {kind} trains it anew")
        with locked(training.folder):
            set_aside(training.folder, training.mark.name)
            training.mark.unlink(missing_ok=True)
        yield f"{problem}; trained anew"
    if is_made and finished(training) is None and (aside := _aside(state_file(training))):
        yield aside


def damaged(training: Training) -> Damaged | None:
    """The mark or the file of weights that has changed since it was written; None if all are whole."""
    if training.loaded:
        return None
    try:
        record = read_mark(training.mark)
    except Damaged as error:
        return error
    if record is None or finished(training) is None:
        return None
    for name in (*record["weights"], *record.get("peers", ())):
        path = weights_file(training, name)
        if problem := damage(path, record.get("sha256", {}).get(name)):
            return Damaged(str(path), None, problem)
    return None


def _aside(state: Path) -> str:
    """Renames a state that cannot be read; the message about it, or empty."""
    try:
        read_state(state, keep=True)
    except Damaged as error:
        state.replace(state.with_name(ASIDE))
        return f"{error}; kept as {ASIDE}, and the training begins anew"
    return ""
