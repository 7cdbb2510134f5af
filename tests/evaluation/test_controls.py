"""The strongest control is chosen on validation images, and test images choose nothing."""

from __future__ import annotations

import torch

from kdrun.evaluation.controls import Chosen, strongest
from kdrun.evaluation.gap import figures as gap
from kdrun.evaluation.subject import Subject

from .subjects import one_hot, subject

LABELS = torch.zeros(40, dtype=torch.int64)
"""Half of them are validation images."""


def rights(validation: int, test: int) -> torch.Tensor:
    """Logits that are right on so many of 20 validation and of 20 test images."""
    return one_hot([0] * validation + [1] * (20 - validation) + [0] * test + [1] * (20 - test))


def planted(**more: torch.Tensor) -> Subject:
    """On validation `longer` is best, on test `smoothed` is, by far."""
    models = {
        "teacher": rights(19, 19),
        "student": rights(18, 16),
        "control": rights(10, 12),
        "control_smoothed": rights(9, 20),
        "control_longer": rights(12, 10),
    }
    return subject(LABELS, validation=20, **models | more)


def test_it_is_best_on_validation_whatever_test_says() -> None:
    assert strongest(planted()) == Chosen("control_longer", "validation")
    assert strongest(planted(control_longer=rights(12, 20))) == Chosen("control_longer", "validation")


def test_of_equals_it_is_the_first() -> None:
    assert strongest(planted(control=rights(12, 0))) == Chosen("control", "validation")


def test_without_labelled_validation_images_it_is_the_first() -> None:
    models = {"student": rights(9, 9), "control_smoothed": rights(3, 3), "control_self": rights(9, 9)}
    assert strongest(subject(LABELS, **models)) == Chosen("control_smoothed", "order")
    unlabelled = torch.cat([torch.full((20,), -1), torch.zeros(20)]).long()
    assert strongest(subject(unlabelled, validation=20, **models)) == Chosen("control_smoothed", "order")


def test_the_gap_is_that_above_the_strongest() -> None:
    (closed,) = gap(planted())
    assert closed.value == 100 * (16 - 10) / (19 - 10)
