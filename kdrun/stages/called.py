"""One training under several names: the student of one run is an assistant or a generation in another."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import RenderableType

from kdrun.progress.journal import read_metrics
from kdrun.progress.screen import Screen


class Called(Screen):
    """A screen on which every training goes by this name."""

    def __init__(self, shown: Screen, name: str) -> None:
        self.shown, self.name = shown, name

    def say(self, text: str = "") -> None:
        self.shown.say(text)

    def show(self, content: RenderableType) -> None:
        self.shown.show(content)

    def begin(self, stage: str, epochs: int, steps: int, done: int) -> None:
        self.shown.begin(self.name, epochs, steps, done)

    def steps(self, done: int) -> None:
        self.shown.steps(done)

    def epoch(self, row: Mapping[str, Any]) -> None:
        self.shown.epoch({**row, "stage": self.name})

    def end(self) -> None:
        self.shown.end()


def epochs_as(role: str, metrics: Path) -> list[dict[str, Any]]:
    """The rows of the training that a folder is about, out of its metrics.jsonl, under its name in this run.

    The file of a run that was evaluated holds those of all of its models.
    """
    kept_as = role if role in ("teacher", "control") else "student"
    return [row | {"stage": role} for row in read_metrics(metrics) if row["stage"] == kept_as]
