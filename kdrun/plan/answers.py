"""How a teacher answers while a student trains: live, ahead of the steps in bulk, or from a table.

This is chosen once, from the layers that the student reads, the views, and the space for a table.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from kdrun.artefacts import fingerprint
from kdrun.data.lazy import Unread
from kdrun.errors import KdrunError
from kdrun.figures import file_size, plural
from kdrun.models.taps import probe
from kdrun.plan.build import layer_paths
from kdrun.plan.ground import Ground, sight
from kdrun.plan.key import head_key
from kdrun.plan.training import Training
from kdrun.training.table import table_bytes
from kdrun.training.tabled import why_no_table
from kdrun.training.teachers import at_once
from kdrun.types import CLASSIFIER

AND = " and "

FREE_SHARE = 0.9
"""The share of the free disk that a table may fill."""

MEMORY_SHARE = 0.5
"""The share of a GPU's free memory that answers may take."""


@dataclass(frozen=True)
class AnswersPlan:
    """kind: none, peer, live, ahead or tabled; for several teachers each kind once: `live and tabled`.
    reason: for the screen. bytes: of full tables.
    """

    kind: str
    reason: str
    bytes: int = 0

    @property
    def runs(self) -> bool:
        """Whether a teacher runs while the student trains, and not only before."""
        return bool({"live", "ahead"} & set(self.kind.split(AND)))


def answers_plan(training: Training) -> AnswersPlan:
    """How the teachers of a training answer, for the layers that all phases read. Raises as `answers_of`."""
    if training.several is None:
        return answers_of(training, training.teacher_needs)
    pairs = zip(training.needs_of_each, training.teachers, strict=True)
    each = [answers_of(training, needs, teacher) for needs, teacher in pairs]
    reasons = dict.fromkeys(answers.reason for answers in each)
    if len(reasons) > 1:
        named = zip(training.several.names, each, strict=True)
        reasons = dict.fromkeys(f"{name}: {answers.reason}" for name, answers in named)
    kinds = AND.join(sorted({answers.kind for answers in each}))
    return AnswersPlan(kinds, "; ".join(reasons), sum(answers.bytes for answers in each))


def answers_of(training: Training, needs: frozenset[str], teacher: Training | None = None) -> AnswersPlan:
    """How a teacher of a training answers. needs: the layers to read. teacher: None for the first.

    Raises KdrunError if the configuration rounds answers but a table does not fit: results would change.
    """
    if not needs:
        return AnswersPlan("none", "no term reads the teacher")
    if training.peer is not None:
        return AnswersPlan("peer", "student and peer train in the same steps and learn from each other")
    teacher = teacher or training.teachers[0]
    runtime, views = training.ground.run.runtime, training.ground.views.count
    size, obstacle = 0, "runtime.table=off" if runtime.table == "off" else why_no_table(needs, views)
    if not obstacle:
        layers = widths(teacher, needs)
        size = table_bytes(codes(training), layers, runtime.table_dtype)
        obstacle = _no_room(training, size, table_folder(training, layers, teacher))
        if obstacle and runtime.table_dtype != "fp32":
            problem = f"needs a table, and {obstacle}"
            raise KdrunError("runtime.table_dtype", runtime.table_dtype, problem, ["fp32"])
    if obstacle:
        ahead = _pays_ahead(training, needs, teacher)
        when = "ahead of the steps" if ahead else "in every step"
        return AnswersPlan("ahead" if ahead else "live", f"teacher runs {when}: {obstacle}")
    extent = f"{plural(views or 0, 'view')}, up to {file_size(size)}"
    rounded = "" if runtime.table_dtype == "fp32" else f" ({runtime.table_dtype})"
    return AnswersPlan("tabled", f"teacher's answers are cached: {extent}{rounded}", size)


def widths(teacher: Training, needs: frozenset[str]) -> Mapping[str, int]:
    """Numbers per row of each layer that a table holds."""
    shapes = probe(teacher.built.model, teacher.ground.data.image_shape)
    return {name: shapes.layer(name)[0] for name in sorted(needs - {CLASSIFIER} | {"logits"})}


def table_folder(training: Training, layers: Collection[str], teacher: Training) -> Path:
    """The folder of a table with these layers: beside the teacher's weights."""
    return teacher.folder / "tables" / f"{'-'.join(layers)}-{_table_key(training, teacher)}"


def codes(training: Training) -> int:
    """The number of different views of all images that a training counts."""
    return (training.ground.views.count or 0) * len(training.labels)


def chunk(ground: Ground) -> int:
    """Images of one forward of a teacher that answers in bulk."""
    return at_once(ground.machine.device, math.prod(ground.data.image_shape))


def row_bytes(teacher: Training, needs: frozenset[str]) -> int:
    """Bytes of the answer to one image, in float32."""
    shapes = probe(teacher.built.model, teacher.ground.data.image_shape, layer_paths(needs))
    stages = [f"stage:{position}" for position in range(shapes.stages)] if "stages" in needs else []
    names = {shapes.canonical(name) for name in needs - {CLASSIFIER, "stages"} | {"logits", *stages}}
    return sum(4 * math.prod(shapes.layer(name)) for name in names)


def answer_memory(ground: Ground) -> int:
    """Bytes that answers may take on the device."""
    most, device = 1e9 * ground.run.runtime.ahead_gb, ground.machine.device
    if device.type == "cuda":
        most = min(most, MEMORY_SHARE * torch.cuda.mem_get_info(device)[0])
    return int(most)


def _table_key(training: Training, teacher: Training) -> str:
    """All that the teacher's answers depend on, with the kind of device and the precision. On a GPU also the
    images of one forward pass, because its libraries choose a kernel by them.
    """
    ground = training.ground
    key: dict[str, Any] = {
        "teacher": dict(teacher.key),
        "weights": teacher.ground.headline,
        "images": ground.data.fingerprint,
        "views": dict(ground.run.dataset["views"]),
        "normalised": [ground.data.mean, ground.data.std, ground.data.white],
        "device": ground.machine.device.type,
        "precision": ground.machine.precision,
        "folded": True,
    } | head_key(ground.machine)
    if training.kind != "teacher" and ground.data.pool is not None:
        key["pool"] = ground.data.pool.fingerprint
    if ground.machine.device.type != "cpu":
        key["chunk"] = chunk(ground)
    if ground.run.runtime.table_dtype != "fp32":
        key["numbers"] = ground.run.runtime.table_dtype
    if teacher.loaded and sight(teacher.ground.data) != sight(ground.data):
        key["sight"] = list(sight(teacher.ground.data))
    return fingerprint(key)


def _no_room(training: Training, size: int, folder: Path) -> str:
    """Why a table of this size does not fit; empty if it fits. An existing table counts as free space."""
    if size > 1e9 * training.ground.run.runtime.table_gb:
        return f"{file_size(size)} are above runtime.table_gb"
    existing = sum(path.stat().st_size for path in folder.glob("*.*"))
    while not folder.exists():
        folder = folder.parent
    space = FREE_SHARE * shutil.disk_usage(folder).free + existing
    return "" if size <= space else f"the disk has no room for {file_size(size)}"


def _pays_ahead(training: Training, needs: frozenset[str], teacher: Training) -> bool:
    """Whether bulk is faster: on a GPU, which small batches leave idle, if no image is read twice. Ranks ask
    in every step.
    """
    ground = training.ground
    if (
        ground.machine.ranks.count > 1
        or ground.machine.device.type == "cpu"
        or isinstance(ground.data.train.images, Unread)
    ):
        return False
    rows = 1e9 * ground.run.runtime.ahead_gb / row_bytes(teacher, needs)
    return min(rows, chunk(ground)) >= 2 * training.recipe.batch
