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
from kdrun.config.schema import Run
from kdrun.errors import KdrunError
from kdrun.models.formats import format_named
from kdrun.plan.plan import Plan, make_plan
from kdrun.plan.training import Training
from kdrun.plan.words import header, intent
from kdrun.progress.drawing import Drawing
from kdrun.progress.record import recording, unrecorded
from kdrun.progress.screen import Screen, screen
from kdrun.progress.watchers import Observers
from kdrun.records import PLAN, read_mark
from kdrun.report.naming import about
from kdrun.report.pictures import draw_missing
from kdrun.stages.changed import changed
from kdrun.stages.engines.engine import refuse_unusable
from kdrun.stages.evaluate import config_text, evaluate, is_current, is_drawn, show
from kdrun.stages.healed import healed
from kdrun.stages.make import Made, make
from kdrun.stages.mining import pool_notes
from kdrun.stages.room import refuse_full_disk, refuse_unwritable
from kdrun.stages.saved import Saved, check_checkpoint, saved, saved_peer, status
from kdrun.stages.teacher_notes import model_notes, reference_notes


def execute(run: Run, command: str, console: Console | None = None) -> Path:
    """Carries out the stages of a run that are not done. Returns the run's folder, or the teacher's if only
    that is asked for.

    command: as typed, for the record. Raises KdrunError; its `while_running` says whether the run had begun.
    """
    refuse_unusable(run)
    plan = make_plan(run)
    return carry_out(plan, command, screen(console))


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
            drawing = Drawing(plan) if drawn else None
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
    artefacts.set_aside(plan.folder)
    (plan.folder / "error.txt").unlink(missing_ok=True)
    artefacts.write_json(plan.folder / PLAN, described(plan, command))
    artefacts.write_text(plan.folder / "config.yaml", config_text(plan))
    for training in plan.every:
        if training.folder in before.failures:
            raise before.failures[training.folder]
    made = make([plan], observers)
    if "evaluate" in plan.run.stages:
        evaluate(plan, there(plan, made.trained), command, observers.screen, drawn)
    else:
        observers.screen.say(f"\n{plan.folder}")


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


def refuse_unstartable(plan: Plan) -> None:
    """Raises KdrunError for what is bound to fail: a stage without its input, a checkpoint that does not fit,
    a state of another version.
    """
    for training in plan.chain:
        check_checkpoint(training)
    for training in plan.every:
        status(training)
    if plan.for_int8 and "evaluate" in plan.run.stages:
        format_named("int8", "quantise")
    if plan.reference is not None:
        plan.reference.load()
    stages = plan.run.stages
    if "student" in stages and "teacher" not in stages and plan.student.teachers:
        for teacher in plan.teachers:
            _refuse_absent(plan, teacher)
    if "evaluate" in stages and "student" not in stages:
        _refuse_absent(plan, plan.student)


def _refuse_absent(plan: Plan, training: Training) -> None:
    if saved(training) is None:
        read_mark(training.mark)  # raises if it is damaged
        asked = "[" + ",".join(plan.run.stages) + "]"
        problem = (
            f"the {training.name} is not trained yet (no {training.mark}); add {training.kind} to the stages"
        )
        raise KdrunError("stages", asked, problem)


def _leave(folder: Path, error: Exception) -> None:
    text = str(error) if isinstance(error, KdrunError) else "".join(traceback.format_exception(error))
    with contextlib.suppress(OSError):  # the disk itself may have failed; the first error is raised
        artefacts.write_text(folder / "error.txt", text + "\n")
