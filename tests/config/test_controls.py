"""The key `control`: what may be typed, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from kdrun.config.choices import CONTROLS
from kdrun.config.controls import lengthened, names, written
from kdrun.config.schema import Recipe
from kdrun.errors import KdrunError
from tests.config.composed import composed


@pytest.mark.parametrize(
    ("typed", "asked"),
    [
        ("true", ("plain",)),
        ("yes", ("plain",)),
        ("plain", ("plain",)),
        ("[plain]", ("plain",)),
        ("false", ()),
        ("[]", ()),
        ("smoothed", ("smoothed",)),
        ("[longer,smoothed]", ("smoothed", "longer")),
        ("self", ("plain", "self")),
        ("[longer,self,teacher_free,smoothed]", CONTROLS),
    ],
)
def test_what_may_be_typed(typed: str, asked: tuple[str, ...]) -> None:
    value = composed(f"control={typed}").run.control
    assert names(value) == asked
    assert written(value) == value, "a recorded value means the same"
    assert isinstance(value, bool) == (asked in ((), ("plain",)))


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (
            "control=smoothd",
            "control=smoothd: no such control (true: plain, false: none). Choices: plain, smoo",
        ),
        ("control=[plain,slef]", "control=slef: no such control"),
        ("control=null", "control=null: no such control"),
        ("control={a:1}", "control={a:1}: no such control"),
        ("control=[self,self]", "control=[self,self]: must not name anything twice"),
        ("control=self method=dml", "control=self: has no meaning here: the student learns from a peer"),
        ("controls.smoothing=1", "controls.smoothing=1.0: must lie between 0 and 1"),
        ("controls.virtual_true_class=0.5", "controls.virtual_true_class=0.5: must be from 0.9 to below 1"),
        ("controls.virtual_temperature=0", "controls.virtual_temperature=0.0: must be above 0"),
        ("controls.virtual_weight=0", "controls.virtual_weight=0.0: must be above 0 and up to 1"),
        ("controls.longer_epochs=long", "controls.longer_epochs=long: must be auto or a whole number from 1"),
        (
            "control=longer controls.longer_epochs=80",
            "controls.longer_epochs=80: must be above recipe.student.epochs=80",
        ),
        ("controls.longer_epoch=90", "controls.longer_epoch=90: no such key"),
    ],
)
def test_what_is_refused(line: str, problem: str) -> None:
    with pytest.raises(KdrunError) as refused:
        composed(line)
    assert str(refused.value).startswith(problem) and "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("recipe", "times", "expected"),
    [
        ({"epochs": 10, "milestones": [5, 8], "stop_at": 6}, 2.26, (23, [12, 18], 14)),
        ({"epochs": 10, "stop_at": 0.5}, 3.0, (30, [], 0.5)),
        ({"epochs": 10}, 1.0, (10, [], None)),
    ],
)
def test_a_longer_recipe_keeps_its_shape(recipe: dict[str, Any], times: float, expected: object) -> None:
    longer = lengthened(Recipe(**recipe), times)
    assert (longer.epochs, longer.milestones, longer.stop_at) == expected
