"""What is longer than the training it belongs to is called out."""

from __future__ import annotations

import pytest

from kdrun.config.arguments import parse
from kdrun.config.compose import single
from kdrun.plan.notes import unfinished
from kdrun.plan.plan import make_plan
from kdrun.plan.words import header

STUDENT = "recipe.student"
STOPS = "the student stops after 10 epochs"


def notes(*overrides: str) -> list[str]:
    plan = make_plan(single(parse([f"{STUDENT}.epochs=10", "recipe.teacher.epochs=10", *overrides])).run)
    found = unfinished(plan)
    assert all(f"note   {note}" in header(plan, 1000).splitlines() for note in found)
    return found


@pytest.mark.parametrize(
    ("override", "note"),
    [
        (
            "temperature={from: 4, to: 1, epochs: 20}",
            f"the schedule of temperature takes 20 epochs, but {STOPS}: it reaches only 2.65",
        ),
        ("alpha={from: 0, to: 1, epochs: 20}", f"the schedule of alpha takes 20 epochs, but {STOPS}"),
        (
            "loss.soft.weight={from: 0, to: 2, epochs: 10, shape: step}",
            f"the schedule of loss.soft.weight takes 10 epochs, but {STOPS}: it reaches only 0",
        ),
        (
            f"{STUDENT}.warmup=1",
            f"the warm-up of {STUDENT} takes 10 epochs, but {STOPS}: its rate never falls",
        ),
    ],
)
def test_a_schedule_that_is_longer_than_the_training(override: str, note: str) -> None:
    assert notes(override) == [note]


def test_early_stopping_counts_as_the_end() -> None:
    stop = ("recipe.teacher.stop_at=2", "recipe.teacher.warmup=0.3")
    note = "the warm-up of recipe.teacher takes 3 epochs, but the teacher stops after 2 epochs"
    assert notes(*stop) == [f"{note}: its rate never falls"]


def test_milestones_after_the_last_epoch() -> None:
    rates = (f"{STUDENT}.schedule=step", f"{STUDENT}.milestones=[5,10,15]")
    assert notes(*rates) == [f"{STUDENT}.milestones=[10,15] are never reached: it has 10 epochs"]
    assert notes(rates[0], f"{STUDENT}.milestones=[5,9]") == []


def test_a_first_phase_that_takes_all_epochs() -> None:
    phase = ("method=ab", "phase_one.epochs=8", f"{STUDENT}.stop_at=4")
    found = "phase_one takes all epochs (the student stops after 4 epochs): the loss after it is never used"
    assert found in notes(*phase)


@pytest.mark.parametrize(
    "override",
    [
        "temperature={from: 4, to: 1, epochs: 10}",
        "temperature={from: 4, to: 1, epochs: 9, shape: step}",
        "temperature={from: 4, to: 4, epochs: 20}",
        f"{STUDENT}.warmup=0.5",
        f"{STUDENT}.milestones=[20]",  # of no effect on a one-cycle schedule
        "stages=[teacher]",
    ],
)
def test_what_fits_is_not_called_out(override: str) -> None:
    assert notes(override) == []
