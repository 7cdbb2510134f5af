"""How good teachers are on the test images of the data sets on which they were trained."""

from __future__ import annotations

from collections.abc import Iterator

from kdrun.evaluation.accuracy import top_k
from kdrun.evaluation.figure import Figure
from kdrun.evaluation.subject import Subject


def figures(subject: Subject) -> Iterator[Figure]:
    """`top1_own_test` in percent, of each teacher with a data set of its own; nothing without any."""
    for whose, _, _, logits, labels in (answers.labelled for answers in subject.own):
        if len(labels):
            yield Figure("top1_own_test", top_k(logits, labels), "%", whose)
