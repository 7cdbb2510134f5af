"""What is looked at before anything is trained: whether a plan can be carried out, which of its files are
damaged, and which files of the user's have changed.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from kdrun.artefacts import fingerprint, locked, set_aside
from kdrun.errors import KdrunError
from kdrun.evaluation.cost import state_bytes
from kdrun.figures import as_typed, file_size
from kdrun.models.formats import format_named
from kdrun.models.weights import damage
from kdrun.paths import expanded, no_folder
from kdrun.plan.plan import Plan
from kdrun.plan.training import Training
from kdrun.records import Damaged, read_mark, teachers_of
from kdrun.stages.saved import check_checkpoint, finished, saved, state_file, status, weights_file
from kdrun.training.checkpoint import read_state

SLOTS = {"sgd": 1, "adam": 2, "adamw": 2}
"""Numbers that an optimiser keeps for each weight."""

FILES = 2
"""Files of weights that a training keeps: the last epoch's and the best on validation."""

ASIDE = "state.damaged"
"""The new name of a state that cannot be read."""

UNKNOWN = "your own code"
"""Used if an earlier version of kdrun did not record the files."""

LOOKED_AT = 100
"""The most earlier trainings that are compared."""


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
        problem = f"the {training.name} is not trained yet (no {training.mark})"
        raise KdrunError("stages", as_typed(plan.run.stages), f"{problem}; add {training.kind} to the stages")


def refuse_full_disk(plans: Iterable[Plan]) -> None:
    """Raises KdrunError if the files of weights that are to be trained, and the largest state, do not fit on
    the disk. Answers and pictures are kept only where there is room.
    """
    several = list(plans)
    trainings = {t.folder: t for plan in several for each in plan.rounds for t in each}
    sizes: dict[int, int] = {}
    kept, state = 0, 0
    for training in trainings.values():
        if finished(training, training.ground.run.fresh) is None:
            size = sizes.setdefault(id(training.built.model), state_bytes(training.built.model))
            kept += FILES * size
            state = max(state, (1 + SLOTS[training.recipe.optimiser]) * size)
    if several and kept:
        _refuse(several[0].run.outputs_dir, kept + state)


def refuse_unwritable(plan: Plan) -> None:
    """Raises KdrunError if nothing can be written where the folders of the run lie or will be made."""
    place = plan.folder.absolute()
    try:
        place = _existing(place)
        tempfile.TemporaryFile(dir=place).close()
    except OSError as error:
        problem = f"{place} cannot be written ({error.strerror})"
        raise KdrunError("outputs_dir", plan.run.outputs_dir, problem) from error
    for training in plan.every:
        if not training.loaded and (problem := no_folder(training.folder)):
            raise KdrunError(str(training.folder), None, problem)


def _refuse(outputs: str, needed: int) -> None:
    disk = shutil.disk_usage(_existing(expanded(outputs).absolute()))
    if disk.total and needed > disk.free:  # some file systems do not say
        problem = f"the disk has {file_size(disk.free)} free, and weights and states take {file_size(needed)}"
        raise KdrunError("outputs_dir", outputs, problem)


def _existing(place: Path) -> Path:
    """The folder, or the nearest above it that is there."""
    return next((each for each in (place, *place.parents) if each.exists()), place)


def healed(plans: Iterable[Plan]) -> list[str]:
    """A line for each damaged file. Its training is ready to start over afterwards.

    Raises KdrunError for a file of a training that these plans do not make.
    """
    several = list(plans)
    made = {training.folder for plan in several for each in plan.rounds for training in each}
    trainings = {training.folder: training for plan in several for training in plan.every}
    lines = [line for folder, each in trainings.items() for line in _healed(each, folder in made)]
    return list(dict.fromkeys(lines))


def _healed(training: Training, is_made: bool) -> Iterator[str]:
    problem = damaged(training)
    if problem is not None:
        if not is_made:
            kind = "teacher" if training.kind == "teacher" else "student"
            raise KdrunError(problem.key, None, f"{problem.args[2]}; the stage {kind} trains it anew")
        with locked(training.folder):
            set_aside(training.folder, training.mark.name)
            training.mark.unlink(missing_ok=True)
        yield f"{problem}; trained anew"
    if is_made and finished(training) is None and (aside := _aside(state_file(training))):
        yield aside


def damaged(training: Training) -> Damaged | None:
    """The mark or the file of weights that has changed since it was written; None if all are whole."""
    if training.loaded:
        return None
    try:
        record = read_mark(training.mark)
    except Damaged as error:
        return error
    if record is None or finished(training) is None:
        return None
    for name in (*record["weights"], *record.get("peers", ())):
        path = weights_file(training, name)
        if problem := damage(path, record.get("sha256", {}).get(name)):
            return Damaged(str(path), None, problem)
    return None


def _aside(state: Path) -> str:
    """Renames a state that cannot be read; the message about it, or empty."""
    try:
        read_state(state, keep=True)
    except Damaged as error:
        state.replace(state.with_name(ASIDE))
        return f"{error}; kept as {ASIDE}, and the training begins anew"
    return ""


def changed(trainings: Iterable[Training]) -> list[str]:
    """`mine/losses.py changed: trained anew (student)` for each file that has changed."""
    by_file: dict[str, dict[str, None]] = {}
    for training in trainings:
        for file in _changed(training):
            by_file.setdefault(file, {})[training.name] = None
    return [
        f"{file} {'was not recorded' if file == UNKNOWN else 'changed'}: trained anew ({', '.join(who)})"
        for file, who in by_file.items()
    ]


def _changed(training: Training) -> list[str]:
    """The files that differ from those of the most similar earlier training of the same configuration."""
    now = training.key.get("sources")
    if not now or training.loaded or training.mark.exists() or state_file(training).exists():
        return []
    same = [key for key in map(_key, _beside(training)) if key and _plain(key) == _plain(training.key)]
    known = [key["sources"] for key in same if key.get("sources")]
    if same and not known:
        return [UNKNOWN]
    changes = (sorted({file for file, _ in now.items() ^ before.items()}) for before in known)
    return min(changes, key=len, default=[])


def _beside(training: Training) -> list[Path]:
    """The newest marks of finished trainings whose folders differ only in the fingerprint."""
    label = training.folder.name.removesuffix(training.fingerprint)
    marks = training.folder.parent.glob(f"{label}*/{training.mark.name}")
    return sorted(marks, key=lambda mark: mark.stat().st_mtime, reverse=True)[:LOOKED_AT]


def _key(mark: Path) -> Mapping[str, Any]:
    """All that a finished training depended on; empty for a mark that cannot be read."""
    try:
        record = read_mark(mark)
    except (OSError, Damaged):
        return {}
    return record["key"] if record else {}


def _plain(key: Mapping[str, Any]) -> str:
    """A fingerprint of the configuration alone: images and a teacher's key depend on the code too."""
    plain = {name: value for name, value in key.items() if name not in ("sources", "data", "normalised")}
    teachers = [{name: value for name, value in each.items() if name != "key"} for each in teachers_of(key)]
    return fingerprint(plain | {"teacher": teachers, "teachers": None})
