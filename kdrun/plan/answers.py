"""How the teacher is asked while a student trains: live, ahead of the steps in bulk, or from a table of its
answers. Chosen once.
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
from kdrun.figures import count, plural
from kdrun.losses.mix import Mix
from kdrun.models.taps import classifier, probe
from kdrun.plan.plan import NAMED, Assembly
from kdrun.progress.screen import Screen
from kdrun.training.ahead import Ahead
from kdrun.training.step import Images
from kdrun.training.table import Table, table_bytes
from kdrun.training.tabled import Tabled, no_table
from kdrun.training.teachers import Live, Teacher, at_once
from kdrun.types import CLASSIFIER

FREE_SHARE = 0.9
"""Of the free disk, what a table may fill at most."""

MEMORY_SHARE = 0.5
"""Of a GPU's free memory, what answers may take at most."""


@dataclass(frozen=True)
class Plan:
    """kind: none, live, ahead or tabled. reason: why, for the screen. bytes: of the table when it is full."""

    kind: str
    reason: str
    bytes: int = 0


def plan(assembly: Assembly, needs: frozenset[str]) -> Plan:
    """Follows from what the mix reads of the teacher, from the views, and from the space a table may take.

    Raises KdrunError where answers were to be rounded, which changes results, and there is no room for them.
    """
    if not needs:
        return Plan("none", "no term asks the teacher")
    if assembly.mutual:
        return Plan("peer", "a peer is trained along, and each learns from what the other says")
    settings, views, numbers = assembly.run.runtime, assembly.views.count, assembly.run.runtime.table_dtype
    size, obstacle = 0, "runtime.table=off" if settings.table == "off" else no_table(needs, views)
    if not obstacle:
        layers = widths(assembly, needs)
        size = table_bytes(_codes(assembly), layers, numbers)
        obstacle = _no_room(assembly, size, table_folder(assembly, layers))
        if obstacle and numbers != "fp32":
            raise KdrunError("runtime.table_dtype", numbers, f"needs a table, and {obstacle}", ["fp32"])
    if obstacle:
        how = "ahead" if _pays_ahead(assembly, needs) else "live"
        return Plan(how, f"the teacher is asked {how}: {obstacle}")
    full = f"{plural(views or 0, 'view')}, up to {_bytes(size)}"
    rounded = "" if numbers == "fp32" else f" ({numbers})"
    return Plan("tabled", f"the teacher's answers are kept: {full}{rounded}", size)


def asked(assembly: Assembly, mix: Mix, live: Live, images: Images, screen: Screen) -> Teacher:
    """The live teacher, or one that keeps its answers in the teacher's folder, or is asked ahead."""
    needs, place = frozenset(mix.needs.teacher), assembly.place.device
    kind = plan(assembly, needs).kind
    if kind in ("none", "live"):
        return live
    chunk = at_once(place, math.prod(assembly.image_shape))
    room = _memory(assembly) // _row_bytes(assembly, needs)
    if kind == "ahead":
        return Ahead(live, images, chunk, room)
    layers, views = widths(assembly, needs), assembly.views.count
    assert views is not None
    folder, numbers = table_folder(assembly, layers), assembly.run.runtime.table_dtype
    table = Table(folder, _codes(assembly), layers, folder.name, numbers)
    head = classifier(live.network) if CLASSIFIER in needs else None
    teacher = Tabled(live, images, views, table, chunk, 0 if place.type == "cpu" else room, head)
    if not teacher.check(place):
        screen.say(f"table   not used, as its answers are not those that the teacher gives here: {folder}")
    return teacher


def spared(teacher: Teacher) -> str:
    """What the screen says after a training: how often the teacher was asked, and how often not."""
    if not teacher.saved:
        return ""
    total = teacher.forwards + teacher.saved
    share = f"{100 * teacher.saved / total:.0f} %"
    return f"table   {count(teacher.saved)} of {plural(total, 'answer')} of the teacher were there ({share})"


def widths(assembly: Assembly, needs: frozenset[str]) -> Mapping[str, int]:
    """Numbers per row of each layer that a table holds."""
    shapes = probe(assembly.built["teacher"].model, assembly.image_shape)
    return {name: shapes.layer(name)[0] for name in sorted(needs - {CLASSIFIER} | {"logits"})}


def table_key(assembly: Assembly) -> str:
    """All that the teacher's answers depend on, the kind of device and the precision among it."""
    key: dict[str, Any] = {
        "teacher": dict(assembly.teacher.key),
        "weights": assembly.headline,
        "images": assembly.data.fingerprint,
        "views": dict(assembly.run.dataset["views"]),
        "normalised": [assembly.data.mean, assembly.data.std, assembly.data.white],
        "device": assembly.place.device.type,
        "precision": assembly.place.precision,
        "folded": True,
    }
    if assembly.run.runtime.table_dtype != "fp32":
        key["numbers"] = assembly.run.runtime.table_dtype
    return fingerprint(key)


def table_folder(assembly: Assembly, layers: Collection[str]) -> Path:
    """Where the table of these layers is kept, beside the teacher's weights."""
    return assembly.teacher.folder / "tables" / f"{'-'.join(layers)}-{table_key(assembly)}"


def _codes(assembly: Assembly) -> int:
    """How many views of images there are."""
    return (assembly.views.count or 0) * len(assembly.data.train.labels)


def _no_room(assembly: Assembly, size: int, folder: Path) -> str:
    """Why a table of that size cannot be; empty where it can. What is there of it counts as room."""
    if size > 1e9 * assembly.run.runtime.table_gb:
        return f"{_bytes(size)} are above runtime.table_gb"
    there = sum(path.stat().st_size for path in folder.glob("*.*"))
    while not folder.exists():
        folder = folder.parent
    room = FREE_SHARE * shutil.disk_usage(folder).free + there
    return "" if size <= room else f"the disk has no room for {_bytes(size)}"


def _pays_ahead(assembly: Assembly, needs: frozenset[str]) -> bool:
    """Whether asking in bulk is faster: where a GPU would be idle in between, and no image is read twice."""
    if assembly.place.device.type == "cpu" or isinstance(assembly.data.train.images, Unread):
        return False
    rows = 1e9 * assembly.run.runtime.ahead_gb / _row_bytes(assembly, needs)
    chunk = at_once(assembly.place.device, math.prod(assembly.image_shape))
    return min(rows, chunk) >= 2 * assembly.student.recipe.batch


def _row_bytes(assembly: Assembly, needs: frozenset[str]) -> int:
    """What the answer to one image takes in memory, in float32."""
    paths = [name for name in needs if name not in NAMED and not name.startswith("stage")]
    shapes = probe(assembly.built["teacher"].model, assembly.image_shape, paths)
    stages = [f"stage:{position}" for position in range(shapes.stages)] if "stages" in needs else []
    names = {shapes.canonical(name) for name in needs - {CLASSIFIER, "stages"} | {"logits", *stages}}
    return sum(4 * math.prod(shapes.layer(name)) for name in names)


def _memory(assembly: Assembly) -> int:
    """Bytes that answers may take on the device."""
    most = 1e9 * assembly.run.runtime.ahead_gb
    if assembly.place.device.type == "cuda":
        most = min(most, MEMORY_SHARE * torch.cuda.mem_get_info(assembly.place.device)[0])
    return int(most)


def _bytes(size: float) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{max(size / 1e6, 1):.0f} MB"
