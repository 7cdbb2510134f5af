from __future__ import annotations

import pytest
import torch

from kdrun.evaluation.gap import figures, gap_closed
from tests.evaluation.subjects import one_hot, subject

LABELS = torch.zeros(40, dtype=torch.int64)
MODELS = {
    "teacher": one_hot([0] * 38 + [2] * 2),
    "student": one_hot([0] * 40),
    "control": one_hot([0] * 20 + [1] * 20),
}


def test_gap_closed_by_hand() -> None:
    assert gap_closed(92.0, 90.0, 88.0) == 50
    assert gap_closed(90.0, 93.0, 88.0) == 250
    assert gap_closed(92.0, 88.0, 88.0) == 0.0


def test_a_gap_that_is_none_and_a_student_below_its_control_have_no_share() -> None:
    assert gap_closed(89.0, 93.0, 88.0) is None
    assert gap_closed(80.0, 93.0, 88.0) is None
    assert gap_closed(92.0, 87.9, 88.0) is None


def test_the_share_of_a_run() -> None:
    (figure,) = figures(subject(LABELS, **MODELS))
    assert (figure.name, figure.whose) == ("gap_closed", "student")
    assert figure.value == pytest.approx(100 * 50 / 45)


def test_runs_without_a_share() -> None:
    assert list(figures(subject(LABELS, "peer", **MODELS))) == []
    assert list(figures(subject(torch.full((40,), -1), **MODELS))) == []
    assert list(figures(subject(LABELS, **(MODELS | {"teacher": MODELS["control"]})))) == []
    assert list(figures(subject(LABELS, teacher=MODELS["teacher"], student=MODELS["student"]))) == []
