"""An evaluation on screen: a bar in a terminal, a line now and then in a log."""

from __future__ import annotations

import re
from io import StringIO

import pytest
from rich.console import Console

from kdrun.progress import screen
from kdrun.report import table
from tests.report.example import example


def test_a_long_evaluation_shows_life(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 10.0, 31.0, 40.0, 70.0])
    monkeypatch.setattr(screen.time, "monotonic", lambda: next(clock))
    text = StringIO()
    log = screen.Lines(Console(file=text, width=80))
    for done in (0, 100, 300, 400, 1000):
        log.answered(done, 1000)
    (line,) = text.getvalue().splitlines()
    assert line.endswith("evaluate  300 of 1,000 images  eta 1:12")


def test_a_terminal_has_a_bar() -> None:
    text = StringIO()
    bars = screen.Bars(Console(file=text, width=80, force_terminal=True))
    for done in (0, 500, 1000):
        bars.answered(done, 1000)
    assert bars.progress is None and "evaluate" in text.getvalue() and "100 %" in text.getvalue()
    assert "0/" not in text.getvalue()


@pytest.mark.parametrize("coloured", [False, True])
@pytest.mark.parametrize("columns", [40, 57, 80, 120])
def test_no_line_ends_in_blanks(columns: int, coloured: bool) -> None:
    """Neither where a sentence is folded nor where a cell is filled up; what stands there is the same."""
    text = StringIO()
    kind = {"force_terminal": coloured, "color_system": "standard" if coloured else None}
    console = Console(file=text, width=columns, **kind)  # type: ignore[arg-type]
    content = table.render(example(), columns)
    screen.Lines(console).show(content)
    lines = re.sub(r"\x1b\[[0-9;]*m", "", text.getvalue()).split("\n")
    assert lines == [line.rstrip() for line in lines] and lines.pop() == ""
    assert lines == table.plain(content, columns).splitlines()
    assert ("\x1b[32m" in text.getvalue()) == coloured


def test_a_terminal_that_cannot_redraw_a_line_has_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    console = Console(file=StringIO(), force_terminal=True)
    monkeypatch.setenv("TERM", "xterm")
    assert isinstance(screen.screen(console), screen.Bars)
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(screen.screen(Console(file=StringIO(), force_terminal=True)), screen.Lines)


def test_a_measurement_of_latencies_shows_life(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 30.0, 61.0, 90.0, 121.0, 122.0])
    monkeypatch.setattr(screen.time, "monotonic", lambda: next(clock))
    text = StringIO()
    log = screen.Lines(Console(file=text, width=80))
    for share in (0.0, 0.2, 0.5, 0.6, 0.8, 1.0):
        log.timed(share)
    one, two = text.getvalue().splitlines()
    assert one.endswith("latency   50 %  eta 1:01") and two.endswith("latency   80 %  eta 0:30")


def test_a_terminal_draws_the_bar_between_samples_alone() -> None:
    text = StringIO()
    bars = screen.Bars(Console(file=text, width=80, force_terminal=True))
    bars.timed(0.0)
    assert bars.progress is not None and not bars.progress.live.auto_refresh
    for share in (0.4, 0.401, 1.0, 1.0):
        bars.timed(share)
    assert bars.progress is None and "0/" not in text.getvalue()
    assert text.getvalue().count("\n") == 1 and "100 %" in text.getvalue()


@pytest.mark.parametrize(("width", "shown"), [(80, False), (120, True)])
def test_a_wide_terminal_has_the_speed(width: int, shown: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(screen.time, "monotonic", iter([0.0, 4.0]).__next__)
    bars = screen.Bars(Console(file=StringIO(), width=width, force_terminal=True))
    bars.progress = screen.Progress(console=bars.console, disable=True, get_time=lambda: 0.0)
    bars.progress.add_task("student", epochs="", numbers="")
    bars.began = screen.time.monotonic()
    bars.epoch({"epoch": 2, "epochs": 5, "terms": {"hard": 1.0}, "validation": {}, "images": 6000})
    assert bars.progress.tasks[0].fields["numbers"] == "hard 1.000" + "  3.0 k images/s" * shown


def test_names_of_all_trainings_are_aligned() -> None:
    text = StringIO()
    log = screen.Lines(Console(file=text, width=120))
    log.names = 20
    row = {"epoch": 1, "epochs": 2, "terms": {"hard": 1.0}, "validation": {}, "images": 64}
    for name in ("teacher", "int8_student_teacher"):
        log.begin(name, 2, 1, 0)
        log.epoch(row | {"stage": name})
    one, two = text.getvalue().splitlines()
    assert one.index(" 1/2 ") == two.index(" 1/2 ")
    bars = screen.Bars(Console(file=StringIO(), width=80, force_terminal=True))
    bars.names = 20
    bars.begin("int8_student_teacher", 12, 5, 0)
    bars.epoch({"epoch": 12, "epochs": 12, "terms": {"hard": 1.0, "soft": 0.1}, "validation": {"top1": 90.0}})
    assert bars.progress is not None
    with bars.console.capture() as seen:
        bars.console.print(bars.progress.get_renderable())
    bars.end()
    assert "val 90.0" in seen.get()


def test_what_has_a_label_is_folded_but_no_path_and_no_line_of_a_log() -> None:
    text = StringIO()
    log = screen.Lines(Console(file=text, width=40))
    log.say("note   " + "word " * 12)
    log.say("a/path: " + "word " * 12)
    log.write("word " * 12)
    assert [len(line) > 40 for line in text.getvalue().splitlines()] == [False, False, True, True]
