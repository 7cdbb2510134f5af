"""A short, seeded part of the attacks; `python -m tests.attack --minutes 30` goes on."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from kdrun.errors import LONGEST, KdrunError
from kdrun.plan.ground import Grounds
from tests.attack.files import DAMAGES, Store
from tests.attack.judged import Ended
from tests.attack.kills import SCENES, Kills
from tests.attack.values import attack, planned

VALUES, FILES = 40, 6
"""Attacks of each kind in the suite."""


@pytest.fixture(scope="module")
def grounds() -> Grounds:
    return {}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("attacked"))


@pytest.mark.parametrize("number", range(VALUES))
def test_values(number: int, grounds: Grounds) -> None:
    end = attack(random.Random(f"suite {number}"), grounds)
    assert not end.faults(), (end.words, end.err)


@pytest.mark.parametrize("number", range(FILES))
def test_files(number: int, store: Store) -> None:
    what, ends, left = store.attacked(random.Random(f"suite {number}"))
    assert not left and not [fault for end in ends for fault in end.faults()], (what, left, ends)


def test_a_killed_run_ends_with_the_same_bits(tmp_path: Path) -> None:
    kills = Kills(tmp_path)
    what, ends, left = kills.attacked(random.Random("suite"), "a run")
    assert not left and not ends[0].faults(), (what, left, ends)
    assert set(kills.whole) == {"a run"} < set(SCENES)


REPORT = "runs/*/report.json"


@pytest.mark.parametrize(
    ("name", "damage", "said"),
    [
        ("runs/*/student.safetensors", "a part", ""),
        ("runs/*/last.safetensors", "garbage instead", "trained anew"),
        (REPORT, "a part", "evaluated anew"),
    ],
)
def test_what_a_finished_run_mends(name: str, damage: str, said: str, store: Store) -> None:
    what, ends, left = store.attacked(random.Random(0), name, damage)
    again = ends[-2:]  # the same command, and another student of the same teacher
    assert not left and not [fault for end in again for fault in end.faults()], (what, left)
    assert said in again[0].out + again[0].err


def test_the_judge_sees_what_is_wrong() -> None:
    """Otherwise no attack could fail."""
    assert not Ended((), 2, "", "key=1: must be 2").faults()
    assert Ended((), None, "", "Traceback\nValueError: no").faults() == ["traceback: ValueError: no"]
    for status, out, err in ((3, "", "x"), (1, "", ""), (2, "", "x" * 999), (0, "\x1b", "")):
        assert len(Ended((), status, out, err).faults()) == 1
    assert set(DAMAGES) == {"a part", "one bit", "garbage instead", "another value"}


@pytest.mark.parametrize(
    "word", ["seed=\x1b[31mred", "seed=" + "9" * 5000, "s\x1beed=1", f"{'k' * 999}=1", f"+alpha={'x' * 2000}"]
)
def test_errors_are_short_and_plain(word: str, grounds: Grounds) -> None:
    end = planned([word], grounds)
    assert end.status in (1, 2) and not end.faults(), end.err


def test_an_error_keeps_the_ends_of_a_long_value() -> None:
    text = str(KdrunError("key", "a" * 500 + "z", "is wrong"))
    assert text.startswith("key=aaa") and "...a" in text and text.endswith("z: is wrong")
    assert len(text) < LONGEST + 30
