"""A trial: trains the student of each repeat, and measures it on validation; the test part is not used."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from kdrun.artefacts import held
from kdrun.errors import KdrunError
from kdrun.plan.plan import Plan
from kdrun.plan.training import Training
from kdrun.progress.journal import Follower, own_rows
from kdrun.progress.record import recording
from kdrun.progress.screen import Screen
from kdrun.progress.watchers import Observers
from kdrun.records import METRICS
from kdrun.report.searches import Trial
from kdrun.search.proposal import Proposal
from kdrun.stages.make import make
from kdrun.stages.ready import healed, refuse_unstartable
from kdrun.stages.saved import finished
from kdrun.training.fit import Stopped


class Judge(Follower):
    """Follows the student of one repeat, and stops its training if the trial is pruned.

    earlier: the accuracies of each earlier repeat, by epoch.
    """

    def __init__(self, proposal: Proposal, student: Training, earlier: Sequence[Mapping[int, float]]) -> None:
        self.proposal, self.student, self.earlier = proposal, student, earlier
        self.curve: dict[int, float] = {}

    def begin(self, epochs: int, steps: int, done: int) -> None:
        """Judges the epochs that were trained before this process."""
        for row in self.recorded():
            self.epoch(row)

    def recorded(self) -> list[dict[str, Any]]:
        """The epochs in the student's folder."""
        return own_rows(self.student.folder / METRICS, self.student.kind)

    def epoch(self, row: Mapping[str, Any]) -> None:
        """Raises Stopped if the trial is pruned; not after the last epoch, when that saves nothing."""
        if not self.look(row) and row["epoch"] < self.student.epochs:
            raise Stopped

    def look(self, row: Mapping[str, Any]) -> bool:
        """Whether to continue after an epoch; True for an epoch that was judged before."""
        epoch, epochs = int(row["epoch"]), self.student.epochs
        if epoch in self.curve or not row["validation"]:
            return True
        self.curve[epoch] = float(row["validation"]["top1"])
        so_far = [curve[epoch] for curve in (*self.earlier, self.curve) if epoch in curve]
        return self.proposal.worth(len(self.earlier) * epochs + epoch, fmean(so_far), epochs)


def tried(proposal: Proposal, plans: Sequence[Plan], screen: Screen) -> Trial:
    """Tries a setting. plans: a run for each repeat, without control and evaluation.

    The trial fails by a KdrunError of a training (such as a loss that is not finite), or if the GPU is full.
    Raises KdrunError for what is not the setting's fault, such as a folder that cannot be continued.
    """
    began, accuracy, curves = time.monotonic(), list[float](), list[Mapping[int, float]]()
    state, problem = "complete", ""
    for plan in plans:
        judge = Judge(proposal, plan.student, curves)
        refuse_unstartable(plan)
        try:
            _train(plan, screen, judge)
        except Stopped:
            state = "pruned"
        except KdrunError as error:
            state, problem = "failed", str(error)
        except torch.OutOfMemoryError:
            state, problem = "failed", "does not fit into the memory of the GPU"
        curves.append(judge.curve if problem else _seen(judge))
        if state != "complete":
            break
        accuracy.append(_accuracy(plan, curves[-1]))
    return Trial(
        values=proposal.setting,
        state=state,  # type: ignore[arg-type]
        accuracy=tuple(accuracy),
        curve=dict(proposal.curve),
        epochs=sum(len(curve) for curve in curves),
        error=problem,
        runs=tuple(_relative(plan) for plan in plans[: len(curves)]),
        seconds=round(time.monotonic() - began, 1),
    )


def _train(plan: Plan, screen: Screen, judge: Judge) -> None:
    """Trains what is missing of a run's teachers and student."""
    for line in healed([plan]):
        screen.say(line)
    with (
        held(training.folder for training in plan.trainings),
        recording(plan, plan.run.logger) as recorder,
    ):
        try:
            make([plan], Observers(screen, recorder, judge))
        finally:
            screen.end()


def _seen(judge: Judge) -> Mapping[int, float]:
    """The accuracy of each epoch, also for a student that was trained before this trial.

    Raises KdrunError if a finished student has no record of its last epoch.
    """
    for row in judge.recorded():
        judge.look(row)
    student = judge.student
    if finished(student) is not None and student.epochs not in judge.curve:
        problem = f"{METRICS} lacks the last epoch's validation; to train anew: kdrun outputs FOLDER --prune"
        raise KdrunError(str(student.folder), None, problem)
    return judge.curve


def _accuracy(plan: Plan, curve: Mapping[int, float]) -> float:
    """The accuracy on validation under the headline: of the last epoch, or of the best one."""
    return max(curve.values()) if plan.ground.headline == "val_best" else curve[plan.student.epochs]


def _relative(plan: Plan) -> str:
    return os.path.relpath(plan.student.folder, Path(plan.run.outputs_dir))
