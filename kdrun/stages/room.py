"""Whether what will be trained can be written, known before it is trained."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

from kdrun.artefacts import typed_path
from kdrun.errors import KdrunError
from kdrun.evaluation.cost import state_bytes
from kdrun.figures import file_size
from kdrun.plan.plan import Plan
from kdrun.stages.saved import finished

SLOTS = {"sgd": 1, "adam": 2, "adamw": 2}
"""Numbers that an optimiser keeps for each weight."""

FILES = 2
"""Files of weights that a training keeps: the last epoch's and the best on validation."""


def refuse_full_disk(plans: Iterable[Plan]) -> None:
    """Raises KdrunError if the files of weights that are to be trained, and the largest state, do not fit on
    the disk. Answers and pictures are kept only where there is room.
    """
    several = list(plans)
    trainings = {t.folder: t for plan in several for each in plan.rounds for t in each if not t.loaded}
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


def _refuse(outputs: str, needed: int) -> None:
    disk = shutil.disk_usage(_existing(typed_path(outputs).absolute()))
    if disk.total and needed > disk.free:  # some file systems do not say
        problem = f"the disk has {file_size(disk.free)} free, and weights and states take {file_size(needed)}"
        raise KdrunError("outputs_dir", outputs, problem)


def _existing(place: Path) -> Path:
    """The folder, or the nearest above it that is there."""
    return next((each for each in (place, *place.parents) if each.exists()), place)
