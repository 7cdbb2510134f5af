from __future__ import annotations

import pytest

from kdrun.plan.plan import make_plan
from kdrun.stages.labels_read import unread
from kdrun.stages.teacher_notes import purpose_notes
from tests.config.composed import composed

JOINT = {"labels_unread": 600, "taught_apart": True}
ALONE = {"labels_unread": 60, "taught_apart": None}
OWN = "teachers.low.dataset=digits teachers.low.dataset.labelled=20"


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("experiment=merge_digits", JOINT),
        ("experiment=merge_digits combine.weights=known", JOINT),
        ("experiment=merge_digits +loss@loss.hard=cross_entropy", {}),
        ("experiment=merge_digits teachers.low.seed=5", JOINT),
        ("method=soft", ALONE),
        ("method=kd alpha=1", ALONE),
        ("method=kd", {}),
        ("method=dkd", {}),  # reads labels and the teacher
        ("method=crd_kd", {}),
        ("experiment=label_free_first", {}),
        ("method=none", {}),
    ],
)
def test_which_labels_a_control_has_and_the_student_has_not(words: str, found: dict[str, object]) -> None:
    assert unread(make_plan(composed(words).run)) == found


@pytest.mark.parametrize(("words", "noted"), [("", True), ("combine.weights=known", False)])
def test_the_note_on_the_upper_bound(words: str, noted: bool) -> None:
    notes = list(purpose_notes(make_plan(composed(f"experiment=merge_digits {words}").run)))
    assert any("upper bound" in note for note in notes) == noted


def test_a_teacher_that_learned_from_other_images_makes_no_upper_bound() -> None:
    words = f"experiment=merge_digits {OWN}"
    assert unread(make_plan(composed(words).run)) == {"labels_unread": 600, "taught_apart": None}
    known = make_plan(composed(f"{words} combine.weights=known").run)
    assert unread(known) == {}, "the labels choose who teaches"
