"""The runs of a search: trials have less than the run that is tested, and what stops that one comes first."""

from __future__ import annotations

import pytest

from kdrun.commands.tune import read
from kdrun.errors import KdrunError
from kdrun.search.runs import Runs, refuse_impossible_values


def runs_of(*words: str) -> Runs:
    asked = read(words)
    return Runs(asked.typed, asked.space)


def test_int8_and_its_keys_are_for_the_tested_run() -> None:
    runs = runs_of("quantise=int8", "int8.epochs=3", "temperature=2,4")
    (trial,) = runs.trial({"temperature": "2"})
    tested = runs.tested({"temperature": "2"})
    assert [training.name for training in trial.every] == ["teacher", "student"]
    assert trial.student.folder == tested.student.folder
    assert [training.epochs for training in tested.for_int8] == [3] * 4


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("int8.epochs=3 temperature=2,4", "int8.epochs=3: used only with quantise=int8"),
        ("quantise=int8 method=kd,none", "quantise=int8: no term of method none reads the teacher"),
        (
            "control=longer controls.longer_epochs=70 epochs=range(20,100,20)",
            "controls.longer_epochs=70: must be above recipe.student.epochs=80",
        ),
    ],
)
def test_what_stops_the_run_of_the_best_trial_is_refused_before_any_trial(words: str, line: str) -> None:
    runs = runs_of(*words.split())
    with pytest.raises(KdrunError) as refused:
        refuse_impossible_values(runs, {})
    assert str(refused.value).startswith(line)
