"""The teacher that a student asks while it trains: live, ahead of the steps, or from a table, as planned."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count as count_from

import torch

from kdrun.figures import count
from kdrun.models.fold import cast_once, folded
from kdrun.models.taps import Tapped, classifier
from kdrun.plan.answers import answer_memory, answers_plan, chunk, codes, row_bytes, table_folder, widths
from kdrun.plan.training import Training
from kdrun.stages.saved import Saved, load_model
from kdrun.training.ahead import Ahead
from kdrun.training.step import Images
from kdrun.training.table import Table
from kdrun.training.tabled import TOLERANCES, Tabled
from kdrun.training.teachers import Live, Teacher
from kdrun.types import CLASSIFIER


def live_teacher(weights: Saved, needs: frozenset[str], say: Callable[[str], None]) -> Live:
    """The trained teacher, asked about every batch. needs: the layers that are read."""
    ground = weights.training.ground
    model = load_model(weights, ground.headline)
    model = folded(model, ground.data.image_shape, needs, say)
    if ground.machine.precision == "bf16":
        model = cast_once(model, torch.bfloat16)
    return Live(Tapped(model, needs, "loss"), ground.machine.autocast())


def planned_teacher(
    training: Training,
    needs: frozenset[str],
    live: Live,
    images: Images,
    say: Callable[[str], None],
) -> Teacher:
    """The live teacher, or one that keeps its answers in the teacher's folder, or one that is asked ahead."""
    ground, kind = training.ground, answers_plan(training, needs).kind
    if kind in ("none", "live"):
        return live
    room = answer_memory(ground) // row_bytes(training, needs)
    if kind == "ahead":
        return Ahead(live, images, chunk(ground), room)
    return _tabled(training, needs, live, images, room, say)


def _tabled(
    training: Training,
    needs: frozenset[str],
    live: Live,
    images: Images,
    room: int,
    say: Callable[[str], None],
) -> Tabled:
    """The teacher with the first table that holds its answers or none yet. Other answers stay where they are:
    they can be right on another machine.
    """
    ground, layers = training.ground, widths(training, needs)
    folder, numbers, device = (
        table_folder(training, layers),
        ground.run.runtime.table_dtype,
        ground.machine.device,
    )
    views, on_gpu = ground.views.count, device.type != "cpu"
    assert views is not None
    head = classifier(live.network) if CLASSIFIER in needs else None
    for number in count_from(1):
        place = folder if number == 1 else folder.with_name(f"{folder.name}-{number}")
        table = Table(place, codes(training), layers, folder.name, numbers, say)
        teacher = Tabled(
            live, images, views, table, chunk(ground), room if on_gpu else 0, head,
            fixed=on_gpu, window=room if on_gpu else 0, tolerance=TOLERANCES[ground.machine.precision],
        )  # fmt: skip
        if teacher.check(device):
            break
        teacher.close()
        say(f"cache   not used, and kept: its answers differ from those of the teacher here: {place}")
    return teacher


def answers_note(teacher: Teacher) -> str:
    """A note after a training: how many answers of the teacher were there already."""
    if not teacher.saved:
        return ""
    total = teacher.forwards + teacher.saved
    share = f"{100 * teacher.saved / total:.0f} %"
    return f"cache   {count(teacher.saved)} of {count(total)} teacher answers reused ({share})"
