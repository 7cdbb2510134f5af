"""Where the numbers of a run go while it trains: to the loggers of `logger=[...]`, and into `curves.png`."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from kdrun.artefacts import write_json
from kdrun.config.schema import recorded
from kdrun.nested import leaves
from kdrun.plan.plan import Plan
from kdrun.plan.training import Training
from kdrun.progress.journal import Follower, named_rows
from kdrun.progress.loggers import LOGGERS, LoggedRun, Logger, scalars
from kdrun.records import METRICS, Damaged, read_fields, read_rows
from kdrun.report import plots, table
from kdrun.report.markdown import PLOTS
from kdrun.report.read import read
from kdrun.report.schema import Report, parts

EVERY = 60.0
"""Seconds between two drawings."""

SHARE = 0.02
"""The largest share of the time that drawing takes."""

MARK = "logged.json"
"""The file in a run's folder that names the loggers that have the whole run."""


class Recorder:
    """Gives every epoch of a run to its loggers once, also the epochs before a resume."""

    def __init__(self, loggers: Iterable[Logger]) -> None:
        self.loggers = tuple(loggers)
        self.given: set[tuple[str, int]] = set()

    def follow(self, training: Training) -> _Following:
        """The follower of a training."""
        return _Following(self, training)

    def give(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Gives the rows to the loggers, except those that they have."""
        for row in rows:
            if (row["stage"], row["epoch"]) not in self.given:
                self.given.add((row["stage"], row["epoch"]))
                for logger in self.loggers:
                    logger.numbers(scalars(row), row["epoch"])


class _Following(Follower):
    def __init__(self, recorder: Recorder, training: Training) -> None:
        self.recorder, self.training = recorder, training

    def begin(self, epochs: int, steps: int, done: int) -> None:
        training = self.training
        self.recorder.give(named_rows(training.folder / METRICS, training.kind, training.name))

    def epoch(self, row: Mapping[str, Any]) -> None:
        self.recorder.give([row])


@contextmanager
def recording(plan: Plan, names: Iterable[str]) -> Iterator[Recorder | None]:
    """The recorder of a run for the loggers of these names; None if there are none.

    At the end, the loggers of an evaluated run also get its figures and its table. The folder keeps the names
    of the loggers that have the whole run.
    """
    about = LoggedRun(plan.folder.name, Path(plan.run.outputs_dir), recorded(plan.run))
    loggers = {name: LOGGERS[name](about) for name in names}
    if not loggers:
        yield None
        return
    recorder = Recorder(loggers.values())
    done = False
    try:
        yield recorder
        if "evaluate" in plan.run.stages:
            _finish(recorder, plan.folder)
            write_json(plan.folder / MARK, sorted({*_logged(plan.folder), *loggers}))
        done = True
    finally:
        for logger in loggers.values():
            logger.close(done)


def unrecorded(plan: Plan) -> list[str]:
    """The loggers of a finished run that do not have the whole run."""
    complete = _logged(plan.folder)
    return [name for name in plan.run.logger if name not in complete]


def figures(report: Report) -> dict[str, float]:
    """The numbers of the final table, by name: `final/student/test/top1`, `final/comparison/gain_top1`."""
    values: dict[str, Any] = {"comparison": report.get("comparison", {})}
    for role, model in report["models"].items():
        keys = ("params", "macs", "bytes", "train_seconds")
        costs = {key: model[key] for key in keys if key in model}  # type: ignore[literal-required]
        values[role] = {**costs, **model.get("figures", {}), **parts(report, role)}
    return {
        f"final/{key.replace('.', '/')}": float(value)
        for key, value in leaves(values)
        if isinstance(value, (int, float)) and not isinstance(value, bool)
    }


def _finish(recorder: Recorder, folder: Path) -> None:
    report = read(folder)
    recorder.give(read_rows(folder / METRICS))
    for logger in recorder.loggers:
        logger.numbers(figures(report), 0)
        logger.text("report", table.text(report))
        for name in PLOTS:
            if (folder / name).exists():
                logger.picture(folder / name)


def _logged(folder: Path) -> list[str]:
    try:
        return list(read_fields(folder / MARK, list[str]) or [])
    except (OSError, Damaged):
        return []


class CurveDrawer(Follower):
    """A follower of all trainings of a run: draws their epochs so far, at most once in EVERY seconds.

    A picture that cannot be written is left out: the training goes on.
    """

    def __init__(self, plan: Plan) -> None:
        self.path, self.title = plan.folder / PLOTS[0], _title(plan)
        self.trainings: Sequence[Training] = [each for each in plan.trainings if not each.loaded]
        self.next = time.monotonic() + EVERY

    def epoch(self, row: Mapping[str, Any]) -> None:
        if time.monotonic() < self.next:
            return
        began = time.monotonic()
        with suppress(OSError):
            if rows := list(self._rows()):
                plots.curves(self.path, rows, self.title)
        ended = time.monotonic()
        self.next = ended + max(EVERY, (ended - began) / SHARE)

    def _rows(self) -> Iterator[dict[str, Any]]:
        for training in self.trainings:
            yield from named_rows(training.folder / METRICS, training.kind, training.name)


def _title(plan: Plan) -> str:
    names = [training.model.name for training in (*plan.teachers[:1], plan.student)]
    return f"{' → '.join(names)}, {plan.ground.data.name}, in training"
