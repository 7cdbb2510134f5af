"""The bias of classes that a student never saw, and its errors by class, by hand."""

from __future__ import annotations

import torch

from kdrun.evaluation.missing_classes import best_bias, errors, with_bias
from kdrun.evaluation.subject import Answers

LOGITS = torch.tensor(
    [[4.0, 1.0, 0.0], [3.0, 0.0, 1.0], [0.0, 3.0, 1.0], [2.0, 0.0, 1.0], [0.0, 2.5, 2.0], [6.0, 0.0, 1.0]]
)
LABELS = torch.tensor([0, 2, 1, 2, 2, 0])


def test_the_constant_is_in_the_middle_of_the_widest_best_range() -> None:
    """Class 2 needs more than 2 for row 1; rows 2 (1) and 0 (4) allow 2 and 4 only; two right with 0."""
    bias = best_bias(LOGITS, LABELS, [2])
    right = (with_bias(LOGITS, [2], bias).argmax(1) == LABELS).sum()
    assert int((LOGITS.argmax(1) == LABELS).sum()) == 3 and int(right) == 5
    assert 2 < bias < 4 and bias == 3.0


def test_no_bias_where_none_is_needed() -> None:
    assert best_bias(LOGITS, LOGITS.argmax(1), [2]) == 0.0


def test_errors_by_class() -> None:
    answers = Answers("student", "last", "test", LOGITS, LABELS)
    assert [errors(answers, number) for number in range(3)] == [0, 0, 3]
