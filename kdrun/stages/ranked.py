"""A run of several processes: rank 0 carries out the plan, the others follow it into each training.

Rank 0 alone looks at folders, takes locks, writes, evaluates and shows. The others wait for the name of the
next training, and get all else that they need from rank 0: the state to continue from, and the teacher's
weights and answers. So they need no disk that they share with it.
"""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from kdrun.config.schema import Run
from kdrun.errors import KdrunError
from kdrun.plan.plan import Plan, make_plan
from kdrun.progress.screen import screen
from kdrun.progress.watchers import Observers
from kdrun.ranks import Ranks
from kdrun.stages.pipeline import carry_out
from kdrun.stages.train import train


def execute_on(ranks: Ranks, run: Run, command: str) -> Path | None:
    """Carries out a run as one of several processes. Returns its folder on rank 0. Raises KdrunError.

    command: as typed, for the record.
    """
    plan = _planned_in_turn(ranks, run)
    if not ranks.leads:
        _follow(ranks, plan)
        return None
    folder = carry_out(plan, command, screen())
    ranks.shared(str)  # the empty name: there is no more
    return folder


def _planned_in_turn(ranks: Ranks, run: Run) -> Plan:
    """The plan. The first process of each machine makes it before the others: it may download the data."""
    if ranks.place == 0:
        plan = make_plan(run)
    ranks.meet()
    if ranks.place != 0:
        plan = make_plan(run)
    ranks.meet()
    return plan


def _follow(ranks: Ranks, plan: Plan) -> None:
    """Takes part in each training that rank 0 names."""
    silent = Observers(screen(Console(quiet=True)), silent=True)
    by_name = {training.folder.name: training for training in plan.trainings}
    while name := ranks.shared(str):
        if name not in by_name:
            problem = (
                f"rank {ranks.rank} has other data, weights or code than rank 0: it does not plan {name}"
            )
            raise KdrunError("torchrun", None, problem)
        try:
            train([by_name[name]], silent)
        except KdrunError as error:
            error.while_running = True
            raise
