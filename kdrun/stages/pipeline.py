"""One run: it is checked, announced, then carried out. A finished run is shown again; an unfinished one
continues.
"""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from kdrun import __version__, artefacts
from kdrun.artefacts import held
from kdrun.config.schema import Run, recorded
from kdrun.errors import KdrunError
from kdrun.plan.plan import Plan, make_plan
from kdrun.plan.words import header, intent
from kdrun.progress.record import CurveDrawer, recording, unrecorded
from kdrun.progress.screen import Screen, screen
from kdrun.progress.watchers import Observers
from kdrun.ranks import Ranks
from kdrun.records import PLAN
from kdrun.report.naming import about
from kdrun.report.pictures import draw_missing
from kdrun.stages.engines.engine import refuse_unusable
from kdrun.stages.evaluate import evaluate, is_current, is_drawn, show
from kdrun.stages.make import Made, make
from kdrun.stages.mining import pool_notes
from kdrun.stages.ready import changed, healed, refuse_full_disk, refuse_unstartable, refuse_unwritable
from kdrun.stages.saved import Saved, saved, saved_peer, status
from kdrun.stages.teacher_notes import model_notes, reference_notes
from kdrun.stages.train import train


def execute(run: Run, command: str, console: Console | None = None) -> Path:
    """Carries out the stages of a run that are not done. Returns the run's folder, or the teacher's if only
    that is asked for.

    command: as typed, for the record. Raises KdrunError; its `while_running` says whether the run had begun.
    """
    refuse_unusable(run)
    plan = make_plan(run)
    return carry_out(plan, command, screen(console))


def execute_on(ranks: Ranks, run: Run, command: str) -> None:
    """Carries out a run as one of several processes. Raises KdrunError. command: as typed, for the record.

    Rank 0 alone looks at folders, takes locks, writes, evaluates and shows. The others wait for the name of
    the next training, and get all else that they need from rank 0: the state to continue from, and the
    teacher's weights and answers. So they need no disk that they share with it.
    """
    plan = _planned_in_turn(ranks, run)
    if ranks.leads:
        carry_out(plan, command, screen())
        ranks.shared(str)  # the empty name: there is no more
    else:
        _follow(ranks, plan)


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
    by_name = {training.folder.name: training for training in plan.trainings}
    while name := ranks.shared(str):
        if name not in by_name:
            problem = (
                f"rank {ranks.rank} has other data, weights or code than rank 0: it does not plan {name}"
            )
            raise KdrunError("torchrun", None, problem)
        try:
            train([by_name[name]], Observers(Screen()))
        except KdrunError as error:
            error.while_running = True
            raise


def carry_out(plan: Plan, command: str, shown: Screen, before: Made | None = None) -> Path:
    """Carries out what is not done of a plan. before: what was made for all jobs of a sweep together; None
    for a single run.
    """
    refuse_unstartable(plan)
    refuse_unwritable(plan)
    about(plan.folder, plan.run.name, plan.run.note, plan.run.tags)
    shown.write(header(plan, shown.columns))
    drawn = is_drawn(plan, job=before is not None)
    if "evaluate" in plan.run.stages and is_current(plan, drawn):
        if drawn:
            draw_missing(plan.folder)
        show(plan, shown, "finished earlier; fresh=true starts over")
        with recording(plan, unrecorded(plan)):
            return plan.folder
    if before is None:
        refuse_full_disk([plan])
    for line in (*changed(plan.every), *healed([plan])):
        shown.say(line)
    notes = [*model_notes(plan), *reference_notes(plan), *pool_notes(plan)]
    shown.write(intent(plan, status, notes, shown.columns))
    try:
        with (
            held(training.folder for training in plan.every),
            recording(plan, plan.run.logger) as recorder,
        ):
            drawing = CurveDrawer(plan) if drawn else None
            _do(plan, command, Observers(shown, recorder, drawing=drawing), before or Made(), drawn)
    except Exception as error:
        _leave(plan.folder, error)
        if not isinstance(error, KdrunError) and (problem := artefacts.full_disk(error)):
            error = KdrunError("outputs_dir", plan.run.outputs_dir, problem)
        if isinstance(error, KdrunError):
            error.while_running = True
        raise error
    return plan.folder


def _do(plan: Plan, command: str, observers: Observers, before: Made, drawn: bool) -> None:
    for line in artefacts.set_aside(plan.folder):
        observers.screen.say(line)
    (plan.folder / "error.txt").unlink(missing_ok=True)
    artefacts.write_json(plan.folder / PLAN, described(plan, command))
    artefacts.write_text(plan.folder / "config.yaml", _config_text(plan))
    for training in plan.every:
        if training.folder in before.failures:
            raise before.failures[training.folder]
    made = make([plan], observers)
    if "evaluate" in plan.run.stages:
        evaluate(plan, there(plan, made.trained), command, observers.screen, drawn)
    else:
        observers.screen.say(f"\n{plan.folder}")


def _config_text(plan: Plan) -> str:
    """The content of config.yaml: all keys of the run."""
    from omegaconf import OmegaConf

    return OmegaConf.to_yaml(OmegaConf.create(recorded(plan.run)))


def described(plan: Plan, command: str) -> dict[str, Any]:
    """The content of plan.json. Folders are relative to the outputs folder."""
    trainings = [
        {
            "name": training.name,
            "kind": training.kind,
            "folder": f"{training.folder.parent.name}/{training.folder.name}",
        }
        for training in plan.every
        if not training.loaded
    ]
    return {"kdrun": __version__, "command": command, "trainings": trainings}


def there(plan: Plan, trained: Collection[Path]) -> dict[str, Saved]:
    """The models of a run that have weights, by name in the report's order.

    trained: folders of those that were trained in this call.
    """
    every = [saved(training) for training in plan.trainings]
    models = [
        replace(each, source="trained") if each and each.training.folder in trained else each
        for each in every
    ]
    student = next((each for each in models if each and each.name == "student"), None)
    peer = saved_peer(student) if student else None
    return {each.name: each for each in (peer, *models) if each is not None}


def _leave(folder: Path, error: Exception) -> None:
    text = str(error) if isinstance(error, KdrunError) else "".join(traceback.format_exception(error))
    with contextlib.suppress(OSError):  # the disk itself may have failed; the first error is raised
        artefacts.write_text(folder / "error.txt", text + "\n")
