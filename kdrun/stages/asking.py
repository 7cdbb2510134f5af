"""How the teacher is asked while a student trains: live, or from a table of its answers. Chosen once."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kdrun.artefacts import fingerprint
from kdrun.data.resident import Resident
from kdrun.losses.mix import Mix
from kdrun.models.taps import probe
from kdrun.stages.assemble import Assembly
from kdrun.training.progress import Screen
from kdrun.training.table import Table, table_bytes
from kdrun.training.teachers import Live, Tabled, Teacher

TABLED = {"logits", "embedding"}
"""What a table can hold; feature maps would take thousands of times the space."""

FREE_SHARE = 0.9
"""Of the free disk, what a table may fill at most."""


@dataclass(frozen=True)
class Plan:
    """kind: live, tabled or none. reason: why, for the screen."""

    kind: str
    reason: str


def plan(assembly: Assembly, needs: frozenset[str]) -> Plan:
    """Follows from what the mix reads of the teacher, from the views, and from the space a table may take."""
    count, settings = assembly.views.count, assembly.run.runtime
    if not needs:
        return Plan("none", "no term asks the teacher")
    if settings.table == "off":
        return Plan("live", "the teacher is asked live: runtime.table=off")
    if not needs <= TABLED:
        return Plan("live", "the teacher is asked live: feature maps are not kept")
    if count is None:
        return Plan("live", "the teacher is asked live: its views are not finite")
    size = table_bytes(count * len(assembly.data.train.labels), widths(assembly, needs))
    if size > 1e9 * settings.table_gb:
        return Plan("live", f"the teacher is asked live: a table of {_bytes(size)} is above runtime.table_gb")
    if size > FREE_SHARE * _free(assembly.teacher.folder):
        return Plan("live", f"the teacher is asked live: no room for a table of {_bytes(size)}")
    noun = "view" if count == 1 else "views"
    return Plan(
        "tabled", f"the teacher's answers are kept: {count} {noun} an image, {_bytes(size)} when full"
    )


def asked(assembly: Assembly, mix: Mix, live: Live, images: Resident, screen: Screen) -> Teacher:
    """The live teacher, or one that keeps its answers in the teacher's folder."""
    needs = frozenset(mix.needs.teacher)
    if plan(assembly, needs).kind != "tabled" or assembly.views.count is None:
        return live
    key = table_key(assembly)
    folder = assembly.teacher.folder / "tables" / f"{'-'.join(sorted(needs | {'logits'}))}-{key}"
    rows = assembly.views.count * len(assembly.data.train.labels)
    table = Table(folder, rows, widths(assembly, needs), key)
    teacher = Tabled(live, images, assembly.views.count, table)
    if not teacher.check(assembly.place.device):
        screen.say(f"table   {folder} held other answers than this teacher gives here; it is made anew")
    return teacher


def widths(assembly: Assembly, needs: frozenset[str]) -> Mapping[str, int]:
    """Numbers per row of each layer that a table holds."""
    shapes = probe(assembly.built["teacher"].model, assembly.image_shape)
    return {name: shapes.layer(name)[0] for name in sorted(needs | {"logits"})}


def table_key(assembly: Assembly) -> str:
    """All that the teacher's answers depend on, the kind of device and the precision among it."""
    return fingerprint(
        {
            "teacher": dict(assembly.teacher.key),
            "weights": assembly.headline,
            "images": assembly.data.fingerprint,
            "views": dict(assembly.run.dataset["views"]),
            "normalised": [assembly.data.mean, assembly.data.std, assembly.data.white],
            "device": assembly.place.device.type,
            "precision": assembly.place.precision,
            "folded": True,
        }
    )


def _bytes(size: float) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{max(size / 1e6, 1):.0f} MB"


def _free(folder: Path) -> int:
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free
