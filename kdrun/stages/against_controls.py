"""The student against its controls on test: the verdict is about one, which was chosen on validation."""

from __future__ import annotations

from typing import Any

from kdrun.config.choices import PLAIN
from kdrun.evaluation import compare, controls
from kdrun.evaluation.subject import Subject
from kdrun.report.statistics import holm


def against_controls(subject: Subject) -> dict[str, Any]:
    """The figures of `comparison` that need a control; empty without one.

    The gain and its verdict are against the strongest control, one comparison. Beside several controls stands
    each by itself, with Holm's correction over all of them.
    """
    student, chosen = subject.on_test("student"), controls.strongest(subject)
    if student is None or chosen is None:
        return {}
    roles = controls.roles(subject)
    answers = {role: subject.on_test(role) for role in roles}
    each = {
        role: compare.against_control(student.logits, own.logits, student.labels)
        for role, own in answers.items()
        if own is not None
    }
    gain = each[chosen.role]
    if roles == (PLAIN,) or not gain:
        return gain
    if len(roles) == 1:
        return gain | {"control": chosen.role}
    return gain | {"control": chosen.role, "chosen_by": chosen.by, "controls": _corrected(each)}


def _corrected(each: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The same with p and verdict by Holm's correction over all."""
    p = holm([own["mcnemar_p"] for own in each.values()])
    return {
        role: own | {"mcnemar_p": value, "verdict": compare.verdict(own["gain_interval"], value)}
        for (role, own), value in zip(each.items(), p, strict=True)
    }
