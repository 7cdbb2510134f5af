"""One run: everything is checked, then said, then done. A finished run is shown again, an unfinished one
continued.
"""

from __future__ import annotations

import contextlib
import traceback
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from kdrun import artefacts
from kdrun.config.schema import Run
from kdrun.errors import KdrunError
from kdrun.models.weights import PEER
from kdrun.plan.plan import Assembly, assemble
from kdrun.plan.training import Training
from kdrun.plan.words import header, intent
from kdrun.progress.record import recording, unrecorded
from kdrun.progress.screen import Screen, screen
from kdrun.stages.called import Called
from kdrun.stages.evaluate import evaluate, is_current, show
from kdrun.stages.make import obtain
from kdrun.stages.saved import Trained, finished, weights_file
from kdrun.training.checkpoint import read_state


def execute(run: Run, command: str, console: Console | None = None) -> Path:
    """Does the stages of a run that are not done yet. Returns the folder of the run (of the teacher, if that
    is all).

    command: as typed, for the record. Raises KdrunError; its `while_running` says whether a training had
    begun.
    """
    shown = screen(console or Console())
    assembly = assemble(run)
    folder = assembly.chain[0].teacher.folder if run.stages == ["teacher"] else assembly.student.folder
    check_startable(assembly)
    shown.say(header(assembly))
    if "evaluate" in run.stages and is_current(assembly):
        show(assembly, shown, "finished earlier; fresh=true starts over")
        with recording(assembly, folder, shown, unrecorded(assembly, folder)):
            pass
        return folder
    shown.say(intent(assembly, folder))
    _writable(folder, run.outputs_dir)
    try:
        with recording(assembly, folder, shown, run.logger) as recorded:
            _run(assembly, folder, command, recorded)
    except Exception as error:
        _leave(folder, error)
        if isinstance(error, KdrunError):
            error.while_running = True
        raise
    return folder


def _run(assembly: Assembly, folder: Path, command: str, shown: Screen) -> None:
    (folder / "error.txt").unlink(missing_ok=True)
    stages = assembly.run.stages
    told_by = None if assembly.mutual else _teacher(assembly.chain[0], shown)
    if stages == ["teacher"]:
        shown.say(f"\n{folder}")
        return
    there = {"teacher": told_by}
    for pair in assembly.chain:
        there[pair.name] = told_by = _taught(pair, told_by, shown)
    if assembly.mutual:
        there["teacher"] = _peer(assembly, told_by)
    if assembly.control is not None:
        allowed = "student" in stages
        if allowed or finished(assembly.control, fresh=False):
            there["control"] = obtain(assembly.control, assembly, None, shown, allowed)
    if "evaluate" in stages:
        evaluate(assembly, {role: model for role, model in there.items() if model}, command, shown)
    else:
        shown.say(f"\n{folder}")


def _teacher(assembly: Assembly, shown: Screen) -> Trained | None:
    """The teacher: loaded, found, or trained. None where it is not there and nothing that is to be done needs
    it.
    """
    training = assembly.teacher
    loaded = loaded_teacher(assembly)
    if loaded is not None:
        return loaded
    if "teacher" in assembly.run.stages:
        return obtain(training, assembly, None, shown)
    if finished(training, fresh=False):
        return obtain(training, assembly, None, shown, allowed=False)
    return None


def _taught(pair: Assembly, teacher: Trained | None, shown: Screen) -> Trained | None:
    """The student of a pair, by the name that it has in the run. None where it is one in between that is not
    there, and nothing that is to be done needs it.
    """
    training, node, allowed = pair.student, pair.student.node, "student" in pair.run.stages
    if not allowed and node.checkpoint:
        return Trained("student", "checkpoint", {"last": Path(node.checkpoint).expanduser()}, {}, None)
    if not allowed and pair.name != "student" and not finished(training, fresh=False):
        return None
    found = obtain(training, pair, teacher, Called(shown, pair.name), allowed)
    return replace(found, role=pair.name)


def _peer(assembly: Assembly, student: Trained | None) -> Trained | None:
    """The peer that was trained along with a student, in the teacher's place. None where it is not there, as
    with a student from a checkpoint.
    """
    if student is None or PEER not in student.record.get("peers", ()):
        return None
    record = {name: student.record[name] for name in ("epochs", "train_seconds")}
    return Trained("teacher", "peer", {"last": weights_file(assembly.student, PEER)}, record, None)


def loaded_teacher(assembly: Assembly) -> Trained | None:
    """The teacher, where it comes from a checkpoint or from pretrained weights."""
    training = assembly.chain[0].teacher
    node = training.node
    if not training.loaded:
        return None
    files = {"last": Path(node.checkpoint).expanduser()} if node.checkpoint else {}
    return Trained("teacher", "checkpoint" if node.checkpoint else "pretrained", files, {}, None)


def check_startable(assembly: Assembly) -> None:
    """Refuses what can be seen to fail: a stage whose input is not there, a checkpoint that does not fit."""
    from kdrun.stages.saved import check_weights

    run, stages = assembly.run, assembly.run.stages
    for role in ("teacher", "student"):
        node = getattr(run, role)
        if node.checkpoint:
            check_weights(assembly, role, node.checkpoint)
    for training in assembly.trainings():
        read_state(training.folder / "state.pt") if not run.fresh else None
    if "student" in stages and assembly.uses_teacher and not assembly.mutual and "teacher" not in stages:
        teacher = assembly.chain[0].teacher
        if not teacher.loaded and not finished(teacher, False):
            raise _missing(assembly, teacher)
    if stages == ["evaluate"] and not run.student.checkpoint and not finished(assembly.student, False):
        raise _missing(assembly, assembly.student)


def _missing(assembly: Assembly, training: Training) -> KdrunError:
    asked = "[" + ",".join(assembly.run.stages) + "]"
    problem = (
        f"the {training.role} is not trained yet (no {training.mark}); add {training.role} to the stages"
    )
    return KdrunError("stages", asked, problem)


def _writable(folder: Path, outputs_dir: str) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        artefacts.write_text(folder / ".writable", "")
        (folder / ".writable").unlink()
    except OSError as error:
        problem = f"{error.filename or folder} cannot be written ({error.strerror})"
        raise KdrunError("outputs_dir", outputs_dir, problem) from error


def _leave(folder: Path, error: Exception) -> None:
    text = str(error) if isinstance(error, KdrunError) else "".join(traceback.format_exception(error))
    with contextlib.suppress(OSError):  # the disk may be what failed; the error itself is raised
        artefacts.write_text(folder / "error.txt", text + "\n")
