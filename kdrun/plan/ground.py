"""What all trainings of a run share: the run, the machine, the data, the views."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from kdrun.config import quick
from kdrun.config.schema import Run, Runtime
from kdrun.data.classes import TransferSet, transfer_set
from kdrun.data.images import ImageSet
from kdrun.data.lazy import Reading
from kdrun.data.load import headline, load
from kdrun.data.views import Views, make_views
from kdrun.data.workers import POSSIBLE
from kdrun.errors import KdrunError
from kdrun.machine import Machine, machine
from kdrun.models.seen import Sight
from kdrun.plan.build import Models
from kdrun.ranks import present
from kdrun.resources import cores

MOST_WORKERS = 32
"""The most that `runtime.workers=auto` starts for a GPU: they decode more images than a training needs."""

DEVICE_SHARE = 0.5
"""The share of a GPU's memory that images may take if they stay there."""


@dataclass(frozen=True)
class Ground:
    """headline: the weights that are used and shown, `last` or `val_best`. transfer: the images that students
    learn from, by class. teaches: on a teacher's own data set, the run in which it teaches.
    """

    run: Run
    machine: Machine
    data: ImageSet
    views: Views
    headline: str
    models: Models
    transfer: TransferSet
    teaches: Run | None = None

    @property
    def planned(self) -> Run:
        """The run that was planned: planning it again gives the same trainings."""
        return self.teaches or self.run


def sight(data: ImageSet) -> Sight:
    """How the pixels of a data set become the input of a model."""
    return Sight(data.mean, data.std, data.white, data.image_shape)


Grounds = dict[str, Ground]
"""Grounds of runs and teachers, by the values that they depend on."""


def ground(run: Run, made: Grounds) -> Ground:
    """Reads the data set and resolves the device. Raises KdrunError.

    made: those of other runs and teachers, to which it is added; with the same data set and machine they
    share one.
    """
    most, runtime = quick.images(run.recipe.student.batch) if run.quick else None, run.runtime
    reads = [run.dataset, run.data_dir, runtime.workers, runtime.cache_gb, most]
    key = json.dumps(
        [reads, run.device, run.precision, run.threads, run.packages], sort_keys=True, default=str
    )
    if key in made:
        return replace(made[key], run=run, transfer=_transfer(run, made[key].data))
    place = machine(run.device, run.precision, run.threads)
    data = load(run.dataset, Path(run.data_dir), reading(runtime, place.device), most)
    views = make_views(run.dataset["views"], data.image_shape)
    chosen = headline(str(run.dataset["headline"]), data)
    models = Models(data, run.dataset["resize"])
    made[key] = Ground(run, place, data, views, chosen, models, _transfer(run, data))
    return made[key]


def own_ground(place: Ground, dataset: dict[str, Any], key: str, made: Grounds) -> Ground:
    """The ground of a run on a teacher's own data set. Raises KdrunError below `key`, that of the teacher."""
    run = replace(place.run, dataset=dataset, transfer_classes=[], transfer_without=[])
    try:
        return replace(ground(run, made), teaches=place.run)
    except KdrunError as error:
        raise (error.below(key) if error.key.startswith("dataset") else error) from error.__cause__


def _transfer(run: Run, data: ImageSet) -> TransferSet:
    return transfer_set(data, run.transfer_classes, run.transfer_without, run.dataset["split"])


def reading(runtime: Runtime, device: torch.device) -> Reading:
    """How images that do not fit into memory are read. Raises KdrunError if this system cannot."""
    workers = auto_workers(device) if runtime.workers == "auto" else int(runtime.workers)
    if workers and not POSSIBLE:
        problem = "this system can read images in this process only"
        raise KdrunError("runtime.workers", workers, problem, ["0"])
    room = None
    if device.type == "cuda":
        room = int(DEVICE_SHARE * torch.cuda.get_device_properties(device).total_memory)
    return Reading(workers, int(1e9 * runtime.cache_gb), room)


def auto_workers(device: torch.device) -> int:
    """All cores but one if a GPU trains; a quarter of the cores if the CPU trains. Of several processes of a
    run on this machine, each has its share.
    """
    if not POSSIBLE:
        return 0
    own = cores() // present().here
    return max(1, own // 4) if device.type == "cpu" else min(max(1, own - 1), MOST_WORKERS)
