"""The progress of a training on screen: a bar in a terminal, plain lines in a log, with the same numbers."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.segment import Segment, Segments
from rich.text import Text

from kdrun.figures import duration
from kdrun.terminal import LEAST, folded, label_of, width

EVERY = 30.0
"""Seconds between two lines of an evaluation in a log."""

TIMED = 60.0
"""Seconds between two lines of a measurement of latencies in a log."""

DRAWN, SHARES = 0.5, 1000
"""Seconds between two pictures of the bar of such a measurement, and its parts."""

BAR = 16
"""Columns of a bar beside short names; longer names take of it."""

WIDE = 100
"""Columns of a terminal from which a bar has the images per second too."""


class Screen:
    """Prints text, and shows the progress of one training at a time, from `begin` to `end`. A method that is
    not defined shows nothing.
    """

    columns = 80
    """Width in characters."""

    names = 8
    """Columns of the names of trainings."""

    left: Callable[[], float | None] | None = None
    """Estimates the seconds until the run is done, while it trains; None: only what is shown is known."""

    after = 0.0
    """Seconds of what follows what is shown."""

    def say(self, text: str = "") -> None:
        """Prints one line or several. Those that have a label or are indented are folded at the width; others
        begin with a path or say what is damaged, and stay whole as errors do.
        """

    def write(self, text: str) -> None:
        """Prints text as it is, however long its lines are."""

    def show(self, content: RenderableType) -> None:
        """Prints a table, or anything else that rich can draw."""

    def begin(self, stage: str, epochs: int, steps: int, done: int) -> None:
        """A training starts or continues. steps: of an epoch. done: steps of the training so far."""

    def steps(self, done: int) -> None:
        """`done` steps of the training are done."""

    def epoch(self, row: Mapping[str, Any]) -> None:
        """An epoch is done: its row of metrics.jsonl."""

    def end(self) -> None:
        """The training ended or was interrupted."""

    def answered(self, done: int, total: int) -> None:
        """The models of an evaluation answered `done` of `total` images."""

    def timed(self, share: float) -> None:
        """This share of a measurement of latencies is done. Nothing is drawn between two calls, so that the
        measurement is not disturbed.
        """

    def ahead(self, stage: float) -> float:
        """Seconds until the run is done. stage: until what is shown is."""
        of_the_run = self.left() if self.left is not None else None
        return stage + self.after if of_the_run is None else of_the_run


class Said(Screen):
    """Passes on what is said, and shows nothing."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.pass_on = say

    def say(self, text: str = "") -> None:
        self.pass_on(text)


def numbers(row: Mapping[str, Any], narrow: bool = False) -> str:
    """`hard 0.310  soft 0.220  val 90.1`: the terms and the validation accuracy of an epoch.

    narrow: for a row that is cut at its end, so the accuracy comes first.
    """
    terms = [
        f"{name} {loss:.3f}" if abs(loss) < 100 else f"{name} {loss:.4g}"
        for name, loss in row["terms"].items()
    ]
    accuracy = [f"val {row['validation']['top1']:.1f}"] if row["validation"] else []
    return "  ".join([*accuracy, *terms] if narrow else [*terms, *accuracy])


class _Time(ProgressColumn):
    """Elapsed time, then the time until the run is done."""

    def __init__(self, ahead: Callable[[float], float]) -> None:
        super().__init__()
        self.ahead = ahead

    def render(self, task: Task) -> Text:
        text = duration(task.elapsed or 0)
        if not task.finished and task.time_remaining is not None:
            text += f" eta {duration(self.ahead(task.time_remaining))}"
        return Text(text, style="dim")


def trimmed(content: RenderableType, console: Console) -> Segments:
    """A content as the console folds and fills it, without the blanks at the ends of its lines."""
    segments: list[Segment] = []
    for line in console.render_lines(content, pad=False):
        while line and not line[-1].text.rstrip():
            line.pop()
        if line:
            line[-1] = line[-1]._replace(text=line[-1].text.rstrip())
        segments += [*line, Segment.line()]
    return Segments(segments)


class Printed(Screen):
    """Texts on a console, as wide as it is."""

    def __init__(self, console: Console) -> None:
        if console.width < LEAST:  # with none, nothing would be shown
            console.width = LEAST
        self.console, self.columns = console, console.width

    def say(self, text: str = "") -> None:
        lines = (folded(line, self.columns) if label_of(line) else line for line in text.split("\n"))
        self.write("\n".join(lines))

    def write(self, text: str) -> None:
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def show(self, content: RenderableType) -> None:
        self.console.print(trimmed(content, self.console), end="")


class Bars(Printed):
    """One bar per training, for terminals."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self.progress: Progress | None = None
        self.resumed_at, self.began, self.next = 0, 0.0, 0.0

    def begin(self, stage: str, epochs: int, steps: int, done: int) -> None:
        self._begin(stage, epochs, steps, done, f"{done // steps}/{epochs}")

    def _begin(
        self, stage: str, epochs: int, steps: int, done: int, at: str, drawn_by_itself: bool = True
    ) -> None:
        self.resumed_at, self.began = done // steps, time.monotonic()
        self.progress = Progress(
            TextColumn(f"{{task.description:{self.names}}}"),
            BarColumn(bar_width=max(BAR - max(0, self.names - Screen.names), 4)),
            TextColumn("{task.fields[epochs]:>7}"),
            TextColumn("{task.fields[numbers]}"),
            _Time(self.ahead),
            console=self.console,
            refresh_per_second=8,
            auto_refresh=drawn_by_itself,
        )
        self.progress.start()
        self.progress.add_task(stage, total=epochs * steps, completed=done, epochs=at, numbers="")

    def steps(self, done: int) -> None:
        if self.progress:
            self.progress.update(self.progress.task_ids[0], completed=done)

    def epoch(self, row: Mapping[str, Any]) -> None:
        if self.progress:
            text, shown = f"{row['epoch']}/{row['epochs']}", numbers(row)
            if self.columns >= WIDE:
                shown += f"  {_speed(row, time.monotonic() - self.began, self.resumed_at)}"
            self.progress.update(self.progress.task_ids[0], epochs=text, numbers=shown)

    def end(self) -> None:
        if self.progress:
            self.progress.stop()
            self.progress = None

    def answered(self, done: int, total: int) -> None:
        if self.progress is None:
            self._begin("evaluate", total, 1, 0, "0 %")
        assert self.progress is not None
        text = f"{100 * done // max(1, total)} %"
        self.progress.update(self.progress.task_ids[0], completed=done, epochs=text, numbers="images")
        if done >= total:
            self.end()

    def timed(self, share: float) -> None:
        if self.progress is None and share < 1:
            self._begin("latency", SHARES, 1, 0, "0 %", drawn_by_itself=False)
            self.next = 0.0
        if self.progress is None or (share < 1 and time.monotonic() < self.next):
            return
        done, self.next = int(SHARES * share), time.monotonic() + DRAWN
        self.progress.update(
            self.progress.task_ids[0], completed=done, epochs=f"{int(100 * share)} %", numbers=""
        )
        self.progress.refresh()
        if share >= 1:
            self.end()


class Lines(Printed):
    """One plain line per epoch, for logs, without control characters. unsaid: trainings without lines."""

    def __init__(self, console: Console, unsaid: Collection[str] = ()) -> None:
        super().__init__(console)
        self.unsaid = unsaid
        self.resumed_at, self.began, self.next = 0, 0.0, 0.0

    def begin(self, stage: str, epochs: int, steps: int, done: int) -> None:
        self.began, self.resumed_at = time.monotonic(), done // steps

    def epoch(self, row: Mapping[str, Any]) -> None:
        if row["stage"] not in self.unsaid:
            self.write(line(row, time.monotonic() - self.began, self.resumed_at, self.ahead, self.names))

    def answered(self, done: int, total: int) -> None:
        self._part("evaluate", done / max(1, total), f"{done:,} of {total:,} images", EVERY)

    def timed(self, share: float) -> None:
        self._part("latency", share, f"{int(100 * share)} %", TIMED)

    def _part(self, name: str, share: float, text: str, every: float) -> None:
        """A line about something of which this share is done, after so many seconds without one."""
        now = time.monotonic()
        if share <= 0:
            self.began, self.next = now, now + every
        elif now >= self.next and share < 1:
            self.next = now + every
            left = duration(self.ahead((now - self.began) / share * (1 - share)))
            self.write(f"{_event(name, self.names)}  {text}  eta {left}")


def line(
    row: Mapping[str, Any],
    seconds: float,
    resumed_at: int,
    of_run: Callable[[float], float] = lambda stage: stage,
    names: int = Screen.names,
) -> str:
    """An epoch as a line of a log: time of day, training, epoch, terms, validation, speed, time left.

    of_run: from the seconds until the training is done to those until the run is. names: columns of names.
    """
    done, left = row["epoch"] - resumed_at, row["epochs"] - row["epoch"]
    rate = _speed(row, seconds, resumed_at)
    ahead = duration(of_run(seconds / max(done, 1) * left))
    epoch = f"{row['epoch']:>{len(str(row['epochs']))}}/{row['epochs']}"
    return f"{_event(row['stage'], names)} {epoch}  {numbers(row)}  {rate}  eta {ahead}"


def _event(name: str, names: int) -> str:
    """The time of day, and what is at work."""
    return f"{time.strftime('%H:%M:%S')} {name:{names}}"


def _speed(row: Mapping[str, Any], seconds: float, resumed_at: int) -> str:
    """`1.3 k images/s` over all epochs since the training was continued."""
    speed = row["images"] * (row["epoch"] - resumed_at) / max(seconds, 1e-9)
    return f"{speed / 1000:.1f} k images/s" if speed >= 1000 else f"{speed:.0f} images/s"


def screen(console: Console | None = None, unsaid: Collection[str] = ()) -> Screen:
    """Bars in a terminal that can redraw a line, lines elsewhere. console: None for the standard output.
    unsaid: trainings without lines in a log.
    """
    if console is None:
        console = Console(width=None if sys.stdout.isatty() else width())
    redraws = console.is_terminal and not console.is_dumb_terminal
    return Bars(console) if redraws else Lines(console, unsaid)
