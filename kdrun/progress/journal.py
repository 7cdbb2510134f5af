"""What follows a training; first of all its record in its folder. That survives kills, and a resumed training
continues it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from kdrun.artefacts import append_text, write_text
from kdrun.progress.screen import line
from kdrun.records import METRICS, read_rows


class Follower:
    """Like `kdrun.training.fit.Watcher`; rows also have the training's name as `stage`. What is not defined
    does nothing.
    """

    def begin(self, epochs: int, steps: int, done: int) -> None:
        """Called when the training starts or continues."""

    def steps(self, done: int) -> None:
        """Called after a step."""

    def epoch(self, row: Mapping[str, Any]) -> None:
        """Called after an epoch."""


class Journal(Follower):
    """A follower that writes `metrics.jsonl` and `log.txt`, a line per epoch in each.

    The lines of metrics.jsonl do not name the training: the student of one run can be another's assistant.
    kind: teacher, student or control.
    """

    def __init__(self, folder: Path, kind: str) -> None:
        self.metrics, self.log, self.kind = folder / METRICS, folder / "log.txt", kind
        self.began, self.resumed_at = time.monotonic(), 0

    def begin(self, epochs: int, steps: int, done: int) -> None:
        """Removes the epochs after the state that is continued.

        After a state of an epoch's last step the loop reports that epoch again.
        """
        self.began, self.resumed_at = time.monotonic(), done // steps
        if self.metrics.exists():
            rows = [row for row in own_rows(self.metrics, self.kind) if row["epoch"] <= self.resumed_at]
            write_text(self.metrics, as_lines(rows))

    def epoch(self, row: Mapping[str, Any]) -> None:
        if row["epoch"] <= self.resumed_at:
            rows = [each for each in own_rows(self.metrics, self.kind) if each["epoch"] < row["epoch"]]
            write_text(self.metrics, as_lines(rows))
        append_text(self.metrics, as_lines([_unnamed(row)]))
        append_text(self.log, line(row, time.monotonic() - self.began, self.resumed_at) + "\n")


def as_lines(rows: Iterable[Mapping[str, Any]]) -> str:
    """Rows as lines of metrics.jsonl."""
    return "".join(json.dumps(row) + "\n" for row in rows)


def own_rows(path: Path, kind: str) -> list[dict[str, Any]]:
    """The epochs of the folder's own training, without a name.

    After an evaluation, the metrics.jsonl of a run has the epochs of all its models, each with its `stage`.
    """
    return [_unnamed(row) for row in read_rows(path) if row.get("stage", kind) == kind]


def named_rows(path: Path, kind: str, name: str) -> list[dict[str, Any]]:
    """The same, with the name of the training in a run as `stage`."""
    return [{"stage": name, **row} for row in own_rows(path, kind)]


def _unnamed(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key != "stage"}
