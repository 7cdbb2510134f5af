"""How far the trainings of a sweep are, on a screen and in a log."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from kdrun.progress import overall as module
from kdrun.progress.overall import Estimate, LiveRows, Logged, overall
from kdrun.progress.screen import Bars, Lines, Said, screen
from kdrun.progress.watchers import OnScreen, Told, Watchers

FOUR = {Path(name): 10.0 for name in "abcd"}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time that the module reads; a test moves it."""
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


def logged(said: list[str], after: float = 0.0) -> Logged:
    return Logged(said.append, FOUR, after)


def test_the_rest_takes_as_long_as_what_is_done_by_hand(clock: list[float]) -> None:
    """Two processes: one training of four done, another half done, in 30 s: 15 of 40 are worked off, so the
    other 25 take 50 s; then 4 s of evaluation."""
    progress = logged([], after=4.0)
    progress.start(0, "a", 10.0)
    progress.start(1, "b", 10.0)
    progress.begin(1, 4, 5, 0)
    progress.step(1, 10)
    assert progress.seconds_left() is None, "too early to tell"
    clock[0] += 30
    progress.begin(0, 1, 5, 0)
    progress.end(0, [Path("a")])
    assert progress.seconds_left() == pytest.approx(54)
    assert progress.line() == "1 of 4 trained, about 54 s left"


def test_what_an_earlier_call_has_done_is_no_speed_of_this_one(clock: list[float]) -> None:
    """Of 20 steps, 10 were there; 5 more took 10 s: 2.5 of the weight. Left are 2.5 and 30: 130 s."""
    progress = logged([])
    progress.start(0, "a", 10.0)
    progress.begin(0, 4, 5, 10)
    clock[0] += 10
    assert progress.seconds_left() is None, "nothing was done in this call"
    progress.step(0, 15)
    assert progress.seconds_left() == pytest.approx(130)


def test_trainings_with_as_many_steps_each_count(clock: list[float]) -> None:
    """Two of four have done half of their steps in 10 s each: 20 s are left of them, and 20 of the others."""
    progress = Estimate(FOUR)
    for number, name in enumerate("ab"):
        progress.start(number, name, 10.0)
        progress.begin(number, 4, 5, 0)
        progress.step(number, 10)
    clock[0] += 10
    assert progress.seconds_left() == pytest.approx(10 + 10 + 20)


def test_a_log_has_a_line_a_minute_and_one_after_each_tenth(clock: list[float]) -> None:
    said: list[str] = []
    progress = logged(said)
    progress.start(0, "student resnet8, seed 1", 10.0)
    progress.begin(0, 4, 100, 0)
    for second in range(1, 122):
        clock[0] += 1
        progress.step(0, second)
        progress.epoch(0, "hard 0.310  val 90.1")
    assert len(said) == 2
    assert said[0][9:] == (
        "0 of 4 trained, about 26 min left: student resnet8, seed 1 0/4  hard 0.310  val 90.1"
    )
    progress.end(0, [Path("a")])
    assert len(said) == 3 and "1 of 4 trained" in said[2]


def test_a_terminal_has_a_row_for_each_process_and_is_clean_at_the_end() -> None:
    output = io.StringIO()
    console = Console(file=output, force_terminal=True, width=80, color_system=None)
    progress = overall(screen(console), FOUR)
    assert isinstance(progress, LiveRows)
    for number in (0, 1):
        progress.start(number, f"student resnet{number}, seed 0", 10.0)
        progress.begin(number, 12, 5, 0)
        progress.step(number, 25)
        progress.epoch(number, "hard 0.310  soft 0.220  val 90.1  and more than fits into a line of 80")
    paper = Console(file=io.StringIO(), width=80)
    with paper.capture() as seen:
        paper.print(progress.picture())
    rows = [row.rstrip() for row in seen.get().splitlines()]
    assert len(rows) == 3 and max(map(len, rows)) <= 80
    assert (
        rows[0].startswith("student resnet0, seed 0 ━") and " 5/12 eta 0:00 hard 0.310  soft 0.220" in rows[0]
    )
    assert rows[2] == "0 of 4 trained"
    progress.close()
    assert "\x1b[2K" in output.getvalue() and output.getvalue().endswith(3 * "\x1b[1A\x1b[2K")


def test_a_process_tells_what_it_trains() -> None:
    told: list[tuple[Any, ...]] = []
    follower = Told(lambda *what: told.append(what))
    follower.begin(3, 7, 0)
    follower.steps(7)
    follower.epoch({"terms": {"hard": 0.5}, "validation": {"top1": 90.12}, "epoch": 1, "epochs": 3})
    assert told == [("begin", 3, 7, 0), ("step", 7), ("epoch", "val 90.1  hard 0.500")]
    shown = Said(lambda text: told.append((text,)))
    shown.begin("student", 3, 7, 0)
    shown.say("something")
    assert told[3:] == [("something",)]


def test_what_is_left_of_a_run_is_its_training_the_others_and_the_evaluation(clock: list[float]) -> None:
    """A quarter of one of four equal trainings took 10 s: 30 s of it are left, 120 s of others, then 4 s."""
    text = io.StringIO()
    lines = Lines(Console(file=text, width=80))
    progress = Estimate(FOUR, 4.0)
    progress.start(0, "a", 10.0)
    lines.left = progress.seconds_left
    followers = Told(lambda kind, *what: getattr(progress, kind)(0, *what)), OnScreen(lines, "teacher")
    shown = Watchers("teacher", 90, followers)
    shown.begin(4, 5, 0)
    clock[0] += 10
    shown.steps(5)
    assert progress.seconds_left() == pytest.approx(154)
    shown.epoch({"epoch": 1, "epochs": 4, "terms": {}, "validation": {}})
    assert text.getvalue().rstrip().endswith("eta 2:34")
    progress.end(0, [Path("a")])
    progress.start(0, "b", 10.0)
    progress.begin(0, 4, 5, 0)
    progress.step(0, 5)
    clock[0] += 20
    assert progress.seconds_left() == pytest.approx(60 + 20 * 30 / 12.5 + 4), (
        "by its own pace, the others' by all"
    )


@pytest.mark.parametrize(("share", "seconds"), [(0.5, 20 + 3), (0.25, 60 + 3)])
def test_an_evaluation_knows_what_follows(clock: list[float], share: float, seconds: float) -> None:
    bars = Bars(Console(file=io.StringIO(), width=80, force_terminal=True))
    bars.after = 3.0
    assert bars.ahead(20 * (1 - share) / share) == seconds
