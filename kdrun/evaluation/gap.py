"""How much of the gap between the (strongest) control and the teacher the student closes."""

from __future__ import annotations

from collections.abc import Iterator

from kdrun.evaluation.compare import gain, pairs
from kdrun.evaluation.controls import strongest
from kdrun.evaluation.figure import Figure
from kdrun.evaluation.subject import Subject


def figures(subject: Subject) -> Iterator[Figure]:
    """`gap_closed` in percent: 100 is all of it. Absent with a peer: the student trains it too."""
    chosen = strongest(subject)
    teacher, student = map(subject.on_test, ("teacher", "student"))
    control = subject.on_test(chosen.role) if chosen is not None else None
    if teacher is None or student is None or control is None or subject.taught_by == "peer":
        return
    labels = student.labels
    if not len(student.labelled.labels):
        return
    above = gain(pairs(teacher.logits, control.logits, labels))
    share = gap_closed(above, gain(pairs(student.logits, control.logits, labels)), 0.0)
    if share is not None:
        yield Figure("gap_closed", share, "%", "student")


def gap_closed(teacher: float, student: float, control: float) -> float | None:
    """100 (student - control) / (teacher - control), from accuracies in percent; in percent.

    None if the teacher is at most a point above the control, since a ratio to so small a gap is noise. None
    if the student is below its control, since it closes nothing.
    """
    if teacher - control <= 1 or student < control:
        return None
    return 100 * (student - control) / (teacher - control)
