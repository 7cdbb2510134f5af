"""Gives the followers of a training the epochs that another process has written into its folder."""

from __future__ import annotations

from kdrun.plan.training import Training
from kdrun.progress.journal import own_rows
from kdrun.progress.watchers import Observers, Watchers
from kdrun.records import METRICS


class Reader:
    """Reads `metrics.jsonl` for the loggers, the judge and the drawing of a command, if there are any."""

    def __init__(self, training: Training, observers: Observers) -> None:
        self.training, self.seen = training, 0
        followers = observers.besides_screen(training)
        self.watchers = Watchers(training.name, training.row_set().length, followers) if followers else None

    def read(self) -> None:
        """Passes on the epochs since the last call. Raises what the followers raise, to stop the training."""
        if self.watchers is None:
            return
        for row in own_rows(self.training.folder / METRICS, self.training.kind):
            if row["epoch"] > self.seen:
                self.seen = row["epoch"]
                self.watchers.epoch(row)
