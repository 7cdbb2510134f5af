"""Which of several controls a student is compared with."""

from __future__ import annotations

from typing import NamedTuple

from kdrun.config.choices import is_control
from kdrun.evaluation.accuracy import correct
from kdrun.evaluation.subject import Subject


class Chosen(NamedTuple):
    """role: of the control. by: `validation`, or `order` if there was nothing to choose by or among."""

    role: str
    by: str


def roles(subject: Subject) -> tuple[str, ...]:
    """The controls that answered the test images, in their order."""
    there = (each.whose for each in subject.answers if each.part == "test" and is_control(each.whose))
    return tuple(dict.fromkeys(there))


def strongest(subject: Subject) -> Chosen | None:
    """The control with the most right answers on validation, of equals the first; without labelled validation
    images the first. Test images choose nothing. None without a control.
    """
    every = roles(subject)
    if not every:
        return None
    own = [subject.on_part(role, "validation") for role in every]
    known = [answers.labelled for answers in own if answers is not None and len(answers.labelled.labels)]
    if len(every) == 1 or len(known) < len(every):
        return Chosen(every[0], "order")
    right = [int(correct(answers.logits, answers.labels).sum()) for answers in known]
    return Chosen(every[right.index(max(right))], "validation")
