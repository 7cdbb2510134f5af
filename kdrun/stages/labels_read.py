"""Which labels the control learned from and the student did not."""

from __future__ import annotations

from typing import Any

from kdrun.losses.base import Loss
from kdrun.plan.plan import Plan

OURS = "kdrun.losses."
"""Modules of losses of which is known whether they read labels."""


def unread(plan: Plan) -> dict[str, Any]:
    """`labels_unread` and `taught_apart` for a report's `distillation`; None where they have no meaning."""
    apart = taught_apart(plan)
    if not reads_none(plan) or (_chosen_by_labels(plan) and not apart):
        return {}
    return {"labels_unread": labels(plan), "taught_apart": apart or None}


def labels(plan: Plan) -> int:
    """How many labels the training part has, which a control learns from."""
    return int((plan.ground.data.train.labels >= 0).sum())


def reads_none(plan: Plan) -> bool:
    """Whether no term of the student's loss reads a label; False of a loss of which that is not known."""
    losses = [term.loss for mix in plan.student.mixes for term in mix.terms]
    trained = bool(plan.student.teachers) and not plan.student.loaded
    return trained and not any(map(_reads, losses))


def _chosen_by_labels(plan: Plan) -> bool:
    """Whether an image's label says which of several teachers is asked."""
    several = plan.taught_first.several
    return several is not None and several.how is not None and several.how.weights == "known"


def _reads(loss: Loss) -> bool:
    kind = type(loss)
    known = kind.__module__.startswith(OURS)
    sampled = kind.prepare is not Loss.prepare  # the images that it compares are drawn by their labels
    return not known or sampled or not loss.uses_unlabelled or not loss.needs.teacher


def taught_apart(plan: Plan) -> bool:
    """Whether each of several teachers learned some of the run's labels and classes, so that a control learns
    jointly what they learned one by one.
    """
    several = plan.taught_first.several
    if several is None or not several.blocks:
        return False
    ours = plan.ground.run.dataset
    return all(not each.loaded and each.ground.run.dataset == ours for each in plan.teachers)
