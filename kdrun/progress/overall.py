"""The progress of a sweep's trainings: a row for each process at work, and one line about all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from kdrun.figures import duration, roughly
from kdrun.progress.screen import Bars, Screen

EVERY = 60.0
"""Seconds between two lines of a log."""

LINES = 10
"""The least number of lines in a log, if there are as many trainings."""

PENDING = "PENDING"
"""The state of a training that waits for a machine."""

ROWS = 16
"""The most rows that are shown."""

SURE = 3.0
"""Seconds of training before the rest is estimated."""


@dataclass
class WorkerRow:
    """A process at work. weight: of its trainings, in estimated seconds. begun: steps done by earlier calls.
    numbers: of its last epoch. at: when it began. state: what it does while it does not train: PENDING.
    """

    name: str
    weight: float
    steps: int = 0
    done: int = 0
    begun: int = 0
    epochs: int = 0
    per_epoch: int = 1
    numbers: str = ""
    at: float = 0.0
    state: str = ""

    @property
    def new(self) -> int:
        """The steps that this call has done."""
        return self.done - self.begun

    @property
    def seconds_left(self) -> float | None:
        """Of its training, by its own pace; None until the first step is done."""
        return (time.monotonic() - self.at) / self.new * (self.steps - self.done) if self.new > 0 else None

    @property
    def eta(self) -> str:
        """`eta 0:40`; empty until the first step is done."""
        left = self.seconds_left
        return "" if left is None else f"eta {duration(left)}"

    @property
    def share(self) -> float:
        return self.done / self.steps if self.steps else 0.0

    @property
    def work(self) -> float:
        """The work done in this call, in estimated seconds."""
        return self.weight * self.new / self.steps if self.steps else 0.0


class Overall:
    """The progress of all processes. Each reports, by its number, what it trains and how far it is.

    weights: of all trainings, in estimated seconds, by folder. The estimates are corrected by the time of the
    work that is done. after: seconds of what comes after the trainings.
    """

    def __init__(self, weights: Mapping[Path, float], after: float = 0.0) -> None:
        self.total, self.waiting, self.after = len(weights), dict(weights), after
        self.rows: dict[int, WorkerRow] = {}
        self.worked, self.began = 0.0, time.monotonic()

    @property
    def trained(self) -> int:
        return self.total - len(self.waiting)

    def start(self, number: int, name: str, weight: float) -> None:
        """A process starts trainings. weight: in estimated seconds."""
        self.rows[number] = WorkerRow(name, weight)
        self.shown()

    def begin(self, number: int, epochs: int, steps: int, done: int) -> None:
        """steps: of an epoch. done: steps of the training so far."""
        row = self.rows[number]
        row.epochs, row.per_epoch, row.steps, row.at = epochs, steps, epochs * steps, time.monotonic()
        row.done = row.begun = done
        row.state = ""
        self.shown()

    def state(self, number: int, text: str) -> None:
        """A process does something else than training: it is PENDING, or waits."""
        self.rows[number].state = text
        self.shown()

    def step(self, number: int, done: int) -> None:
        self.rows[number].done = done
        self.shown()

    def epoch(self, number: int, text: str) -> None:
        """text: the numbers of the epoch."""
        self.rows[number].numbers = text
        self.shown()

    def end(self, number: int, folders: Iterable[Path]) -> None:
        """A process has ended; these trainings are done or failed."""
        row = self.rows.pop(number)
        self.worked += row.weight * (1 - row.begun / row.steps) if row.steps else 0.0
        for folder in folders:
            self.waiting.pop(folder, None)
        self.shown()

    def seconds_left(self) -> float | None:
        """Estimated seconds until everything is done; None if too little is done for an estimate."""
        passed = time.monotonic() - self.began
        worked = self.worked + sum(row.work for row in self.rows.values())
        if passed < SURE or worked <= 0:
            return None
        left = sum(self.waiting.values()) - sum(row.weight * row.share for row in self.rows.values())
        return max(left, 0.0) * passed / worked + self.after

    def line(self) -> str:
        """`3 of 8 trained, 4 pending, about 40 min left`."""
        left, pending = self.seconds_left(), sum(row.state == PENDING for row in self.rows.values())
        parts = [f"{self.trained} of {self.total} trained"]
        parts += [f"{pending} pending"] if pending else []
        return ", ".join([*parts, f"about {roughly(left)} left"] if left else parts)

    def at_work(self) -> list[WorkerRow]:
        """The rows that are shown: at most ROWS, those that are not pending first."""
        return sorted(self.rows.values(), key=lambda row: row.state == PENDING)[:ROWS]

    def shown(self) -> None:
        """Called after each change."""

    def close(self) -> None:
        """Called at the end, also if trainings were interrupted."""


class Estimate(Overall):
    """Of a single run, whose screen shows each training by itself: only what is left is asked."""

    def seconds_left(self) -> float | None:
        """The rest of the training at work, by its own pace; then the others, by the pace of all so far."""
        now, rows = time.monotonic(), list(self.rows.values())
        worked = self.worked + sum(row.work for row in rows)
        if worked <= 0:
            return None
        own = sum(row.seconds_left or 0.0 for row in rows)
        others = sum(self.waiting.values()) - sum(row.weight for row in rows)
        return own + max(others, 0.0) * (now - self.began) / worked + self.after


class LiveRows(Overall):
    """In a terminal: the rows change in place, and disappear at the end."""

    def __init__(self, console: Console, weights: Mapping[Path, float], after: float = 0.0) -> None:
        super().__init__(weights, after)
        self.live = Live(console=console, get_renderable=self.picture, refresh_per_second=4, transient=True)
        self.live.start()

    def picture(self) -> RenderableType:
        """The rows, and the line below them."""
        table = Table.grid(padding=(0, 1))
        for row in self.at_work():
            bar = ProgressBar(total=max(row.steps, 1), completed=row.done, width=16)
            epochs = f"{row.done // row.per_epoch}/{row.epochs}" if row.epochs else ""
            last = row.state or row.numbers
            texts = [Text(text, no_wrap=True) for text in (row.name, epochs, row.eta, last)]
            table.add_row(texts[0], bar, *texts[1:])
        return Group(table, Text(self.line()))

    def close(self) -> None:
        self.live.stop()


class Logged(Overall):
    """In a log: a line a minute, and one after each tenth of the trainings."""

    def __init__(
        self, write: Callable[[str], None], weights: Mapping[Path, float], after: float = 0.0
    ) -> None:
        super().__init__(weights, after)
        self.write, self.last, self.tenths = write, time.monotonic(), 0

    def shown(self) -> None:
        tenths, now = LINES * self.trained // max(self.total, 1), time.monotonic()
        if tenths > self.tenths or now - self.last >= EVERY:
            at_work = "; ".join(_at(row) for row in self.at_work() if row.state != PENDING)
            self.write(f"{time.strftime('%H:%M:%S')} {self.line()}{f': {at_work}' if at_work else ''}")
            self.tenths, self.last = tenths, now


def overall(screen: Screen, weights: Mapping[Path, float], after: float = 0.0) -> Overall:
    """Rows in a terminal, lines elsewhere."""
    if isinstance(screen, Bars):
        return LiveRows(screen.console, weights, after)
    return Logged(screen.write, weights, after)


def _at(row: WorkerRow) -> str:
    """`student resnet8 12/80  val 90.1`."""
    epochs = f" {row.done // row.per_epoch}/{row.epochs}" if row.epochs else ""
    return f"{row.name}{epochs}  {row.state or row.numbers}".rstrip()
