"""What is asked of the evaluation is checked before anything is trained."""

from __future__ import annotations

import pytest

from kdrun.errors import KdrunError
from tests.config.composed import composed


@pytest.mark.parametrize(
    ("typed", "problem"),
    [
        ("evaluation.batches=[100000000000]", "must be batch sizes from 1 to 65536"),
        ("evaluation.batches=[1,0]", "must be batch sizes from 1 to 65536"),
        ("evaluation.batches=[4,1,4]", "must not name anything twice"),
        ("evaluation.samples=0", "must be a whole number from 1 to 1000000"),
        ("evaluation.samples=1000000000000", "must be a whole number from 1 to 1000000"),
        ("evaluation.seconds=0", "must be above 0, and at most 3600 (an hour for each batch size)"),
        ("evaluation.seconds=inf", "must be a finite number"),
        ("evaluation.seconds=nan", "must be a finite number"),
        ("evaluation.figures=[cost,cost]", "must not name anything twice"),
        ("evaluation.figures=[mine.entropy]", "your own code must be in a package that you list"),
    ],
)
def test_what_cannot_be_meant_is_refused(typed: str, problem: str) -> None:
    with pytest.raises(KdrunError) as error:
        composed(typed)
    assert str(error.value).startswith(typed.partition("=")[0]) and problem in str(error.value)


def test_the_largest_values_that_can_be_meant() -> None:
    run = composed("evaluation.batches=[65536,1] evaluation.samples=1000000 evaluation.seconds=3600").run
    assert run.evaluation.batches == [65536, 1]
