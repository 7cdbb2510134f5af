"""The record of a training in its folder, which survives kills and is continued on resume."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from kdrun.artefacts import write_text
from kdrun.progress.screen import Screen, line


class Journal:
    """The folder's record of a training: `metrics.jsonl`, a line an epoch, and `log.txt`; and what the screen
    shows.

    images: how many images an epoch has, for the speed.
    """

    def __init__(self, folder: Path, stage: str, shown: Screen, images: int) -> None:
        self.metrics, self.log = folder / "metrics.jsonl", folder / "log.txt"
        self.stage, self.shown, self.images = stage, shown, images
        self.began, self.resumed_at = time.monotonic(), 0

    def begin(self, epochs: int, steps: int, done: int) -> None:
        """Forgets epochs after the state that is continued, then shows the stage."""
        self.began, self.resumed_at = time.monotonic(), done // steps
        if self.metrics.exists():
            rows = read_metrics(self.metrics)
            kept = [row for row in rows if row["stage"] == self.stage and row["epoch"] <= self.resumed_at]
            write_text(self.metrics, as_lines(kept))
        self.shown.begin(self.stage, epochs, steps, done)

    def steps(self, done: int) -> None:
        self.shown.steps(done)

    def epoch(self, row: dict[str, Any]) -> None:
        row = row | {"images": self.images}
        with self.metrics.open("a", encoding="utf-8") as file:
            file.write(as_lines([row]))
        with self.log.open("a", encoding="utf-8") as file:
            file.write(line(row, time.monotonic() - self.began, self.resumed_at) + "\n")
        self.shown.epoch(row)


def as_lines(rows: list[dict[str, Any]]) -> str:
    """Rows as they stand in metrics.jsonl."""
    return "".join(json.dumps(row) + "\n" for row in rows)


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The rows of a metrics.jsonl; without the half line of a process that was killed while writing it."""
    if not path.exists():
        return []
    rows = []
    for text in path.read_text(encoding="utf-8", errors="replace").split("\n"):
        try:
            rows.append(json.loads(text))
        except ValueError:
            continue
    return rows
