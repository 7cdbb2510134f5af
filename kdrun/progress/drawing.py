"""`curves.png` while a run trains."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kdrun.plan.plan import Plan
from kdrun.plan.training import Training
from kdrun.progress.journal import Follower, named_rows
from kdrun.records import METRICS
from kdrun.report import plots
from kdrun.report.markdown import PLOTS

EVERY = 60.0
"""Seconds between two drawings."""

SHARE = 0.02
"""The largest share of the time that drawing takes."""


class Drawing(Follower):
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
        with contextlib.suppress(OSError):
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
