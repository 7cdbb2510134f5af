"""A run in the tools that `logger=[...]` names: what they are given, and when."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import RenderableType

from kdrun.artefacts import read_json, write_json
from kdrun.plan.plan import Assembly
from kdrun.progress.journal import read_metrics
from kdrun.progress.loggers import LOGGERS, About, Logger, leaves, scalars
from kdrun.progress.screen import Screen
from kdrun.report import table
from kdrun.report.read import read
from kdrun.report.schema import Report, parts
from kdrun.stages.called import epochs_as

MARK = "logged.json"
"""Which tools have been given the whole run; in its folder."""


class Recorded(Screen):
    """A screen that hands every epoch on to loggers too: each once, those before a continuation as well.

    metrics: where the epochs of each stage are kept that another process has trained.
    """

    def __init__(self, shown: Screen, loggers: Iterable[Logger], metrics: Mapping[str, Path]) -> None:
        self.shown, self.loggers, self.metrics = shown, tuple(loggers), metrics
        self.given: set[tuple[str, int]] = set()

    def say(self, text: str = "") -> None:
        self.shown.say(text)

    def show(self, content: RenderableType) -> None:
        self.shown.show(content)

    def begin(self, stage: str, epochs: int, steps: int, done: int) -> None:
        self.shown.begin(stage, epochs, steps, done)
        if stage in self.metrics:
            self.give(epochs_as(stage, self.metrics[stage]))

    def steps(self, done: int) -> None:
        self.shown.steps(done)

    def epoch(self, row: Mapping[str, Any]) -> None:
        self.shown.epoch(row)
        self.give([row])

    def end(self) -> None:
        self.shown.end()

    def give(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Hands on those rows of metrics.jsonl that have not been."""
        for row in rows:
            if (row["stage"], row["epoch"]) not in self.given:
                self.given.add((row["stage"], row["epoch"]))
                for logger in self.loggers:
                    logger.numbers(scalars(row), row["epoch"])


@contextmanager
def recording(assembly: Assembly, folder: Path, shown: Screen, names: Iterable[str]) -> Iterator[Screen]:
    """The screen of a run, whose epochs also go to the loggers of these names.

    After it, a run that was evaluated also gives them its figures and its table; who has a whole run is
    remembered in its folder.
    """
    loggers = {name: LOGGERS[name](_about(assembly, folder)) for name in names}
    if not loggers:
        yield shown
        return
    metrics = {training.role: training.folder / "metrics.jsonl" for training in assembly.trainings()}
    recorded = Recorded(shown, loggers.values(), metrics)
    done = False
    try:
        yield recorded
        if "evaluate" in assembly.run.stages:
            _finish(recorded, folder)
            write_json(folder / MARK, sorted({*_logged(folder), *loggers}))
        done = True
    finally:
        for logger in loggers.values():
            logger.close(done)


def unrecorded(assembly: Assembly, folder: Path) -> list[str]:
    """Those loggers that the run asks for and that have not been given all of it, finished as it is."""
    had = _logged(folder)
    return [name for name in assembly.run.logger if name not in had]


def figures(report: Report) -> dict[str, float]:
    """The numbers of the final table, by name: `final/student/test/top1`, `final/comparison/gain_top1`."""
    found: dict[str, Any] = {"comparison": report.get("comparison", {})}
    for role, model in report["models"].items():
        kept = ("params", "macs", "bytes", "train_seconds")
        found[role] = {**{key: model[key] for key in kept if key in model}, **parts(report, role)}  # type: ignore[literal-required]
    return {
        f"final/{key.replace('.', '/')}": float(value)
        for key, value in leaves(found)
        if isinstance(value, (int, float)) and not isinstance(value, bool)
    }


def _finish(recorded: Recorded, folder: Path) -> None:
    report = read(folder)
    recorded.give(read_metrics(folder / "metrics.jsonl"))
    for logger in recorded.loggers:
        logger.numbers(figures(report), 0)
        logger.text("report", table.text(report))


def _about(assembly: Assembly, folder: Path) -> About:
    return About(folder.name, Path(assembly.run.outputs_dir), asdict(assembly.run))


def _logged(folder: Path) -> list[str]:
    try:
        return list(read_json(folder / MARK))
    except (OSError, ValueError):
        return []
