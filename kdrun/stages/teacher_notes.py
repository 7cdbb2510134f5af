"""What looks wrong with the models of a run that come from files, said before a student learns from them."""

from __future__ import annotations

from collections.abc import Iterator

from kdrun.plan.plan import Plan
from kdrun.stages.saved import class_note


def class_notes(plan: Plan) -> Iterator[str]:
    """Of each model whose file names other classes than the data set."""
    trainings = (*plan.chain, *filter(None, [plan.student.peer]))
    yield from dict.fromkeys(note for training in trainings if (note := class_note(training)))
