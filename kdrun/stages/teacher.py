"""The teachers that a student asks in training: live, ahead of the steps, or from a table, as planned."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import count as count_from
from typing import TypeVar

import torch
from torch import nn

from kdrun.figures import count
from kdrun.losses.mix import Mix
from kdrun.models.fold import cast_once, folded
from kdrun.models.seen import seen
from kdrun.models.taps import Tapped, classifier
from kdrun.plan.answers import answer_memory, answers_of, chunk, codes, row_bytes, table_folder, widths
from kdrun.plan.ground import sight
from kdrun.plan.training import Training
from kdrun.stages.saved import load_model, on_device, saved
from kdrun.training.ahead import Ahead
from kdrun.training.several import SeveralTeachers, Together
from kdrun.training.step import Images
from kdrun.training.table import AnswerTable, SharedTable
from kdrun.training.tabled import TOLERANCES, Tabled
from kdrun.training.teachers import Live, NoTeacher, Teacher
from kdrun.types import CLASSIFIER

Kind = TypeVar("Kind", bound=Teacher)

Say = Callable[[str], None]
"""Shows a line."""


def live_teachers(training: Training, mix: Mix, say: Say) -> Live | SeveralTeachers | None:
    """The trained teachers that a mix reads, run on every batch; None if it reads none, or a peer."""
    read = training.read_by(mix).items()
    return _as_one(training, mix, {name: live_teacher(training, *one, say) for name, one in read})


def as_live(training: Training, mix: Mix, models: Sequence[nn.Module]) -> Live | SeveralTeachers | None:
    """The same with given models, one for each teacher of the training."""
    given = dict(zip(training.teachers, models, strict=True))
    read = training.read_by(mix).items()
    live = {name: _tapped(training, teacher, given[teacher], needs) for name, (teacher, needs) in read}
    return _as_one(training, mix, live)


def _as_one(training: Training, mix: Mix, teachers: Mapping[str, Kind]) -> Kind | SeveralTeachers | None:
    """The teachers that a mix reads, as `read_by` names them, as one."""
    if training.several is None or not teachers:
        return next(iter(teachers.values()), None)
    asked = [each for each in training.several.asked if each.name in teachers]
    how = training.several.how if mix.reads("") else None
    return SeveralTeachers(teachers, Together(asked, how).to(training.ground.machine.device))


def live_teacher(training: Training, teacher: Training, needs: frozenset[str], say: Say) -> Live:
    """A trained teacher that takes the images of the training that it teaches."""
    ground = teacher.ground
    model = folded(_trained(training, teacher), ground.data.image_shape, needs, say)
    if ground.machine.precision == "bf16":
        model = cast_once(model, torch.bfloat16)
    return _tapped(training, teacher, model, needs)


def _trained(training: Training, teacher: Training) -> nn.Module:
    """A trained teacher. Rank 0 reads the weights; the others, which may have no such disk, get its."""
    ranks = training.ground.machine.ranks
    if ranks.leads:
        weights = saved(teacher)
        assert weights is not None, f"{teacher.name} is made before {training.name}"
        model = load_model(weights, teacher.ground.headline)
    else:
        model = on_device(teacher.initial().model, teacher)
    ranks.copy(model.state_dict().values())
    return model


def _tapped(training: Training, teacher: Training, model: nn.Module, needs: frozenset[str]) -> Live:
    tapped, ground = Tapped(model, needs, "loss"), teacher.ground
    return Live(seen(tapped, sight(training.ground.data), sight(ground.data)), ground.machine.autocast())


def planned_teacher(
    training: Training, mix: Mix, live: Live | SeveralTeachers | None, images: Images, say: Say
) -> Teacher:
    """The teachers as planned: each live, ahead of the steps, or with a table of answers in its folder."""
    asked: dict[str, Teacher] = {}
    for name, (teacher, needs) in training.read_by(mix).items():
        own = live.teachers[name] if isinstance(live, SeveralTeachers) else live
        assert isinstance(own, Live)
        asked[name] = planned(training, teacher, needs, own, images, say)
    return _as_one(training, mix, asked) or NoTeacher()


def planned(
    training: Training, teacher: Training, needs: frozenset[str], live: Live, images: Images, say: Say
) -> Teacher:
    """One teacher as planned: live, ahead of the steps, or with a table of answers in its folder."""
    ground, ranks = training.ground, training.ground.machine.ranks
    kind = ranks.shared(lambda: answers_of(training, needs, teacher).kind)  # reads the free disk
    if kind in ("none", "live"):
        return live
    room = ranks.shared(lambda: answer_memory(ground) // row_bytes(teacher, needs))
    if kind == "ahead":
        return Ahead(live, images, chunk(ground), room)
    return _tabled(training, teacher, needs, live, images, room, say)


def _tabled(
    training: Training,
    teacher: Training,
    needs: frozenset[str],
    live: Live,
    images: Images,
    room: int,
    say: Say,
) -> Tabled:
    """A teacher with the first table that is empty or has its answers. Other tables stay: their answers can
    be right on another machine.
    """
    ground, layers = training.ground, widths(teacher, needs)
    folder, numbers = table_folder(training, layers, teacher), ground.run.runtime.table_dtype
    device, ranks, views = ground.machine.device, ground.machine.ranks, ground.views.count
    assert views is not None
    on_gpu = device.type != "cpu"
    head = classifier(live.network) if CLASSIFIER in needs else None
    asks_for_most = training.recipe.epochs * len(training.rows) >= codes(training)
    for number in count_from(1):
        place = folder if number == 1 else folder.with_name(f"{folder.name}-{number}")
        opening = partial(AnswerTable, place, codes(training), layers, folder.name, numbers, say)
        table = (
            opening() if ranks.count == 1 else SharedTable(ranks, opening, codes(training), layers, numbers)
        )
        tabled = Tabled(
            live, images, views, table, chunk(ground), room if on_gpu else 0, head,
            fixed=on_gpu, window=room if on_gpu else 0, whole=on_gpu and asks_for_most,
            tolerance=TOLERANCES[ground.machine.precision],
            ranks=ranks,
        )  # fmt: skip
        if tabled.check(device):
            break
        tabled.close()
        say(f"cache   not used, and kept: its answers differ from those of the teacher here: {place}")
    return tabled


def answers_note(teacher: Teacher) -> str:
    """A note after a training: how many of the teacher's answers came from the cache."""
    if not teacher.saved:
        return ""
    total = teacher.forwards + teacher.saved
    share = f"{100 * teacher.saved / total:.0f} %"
    return f"cache   {count(teacher.saved)} of {count(total)} teacher answers reused ({share})"
