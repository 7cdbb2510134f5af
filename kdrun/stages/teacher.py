"""The teachers that a student asks in training: live, ahead of the steps, or from a table, as planned."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import count as count_from

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
from kdrun.training.several import Several, Together
from kdrun.training.step import Images
from kdrun.training.table import SharedTable, Table
from kdrun.training.tabled import TOLERANCES, Tabled
from kdrun.training.teachers import Live, Teacher
from kdrun.types import CLASSIFIER

Say = Callable[[str], None]


def live_teachers(training: Training, mix: Mix, say: Say) -> Live | Several | None:
    """The trained teachers that a mix reads, run on every batch; None if it reads none, or a peer."""
    if not mix.needs.teacher or not training.teachers:
        return None
    if training.several is None:
        return live_teacher(training, training.teachers[0], mix.needs.teacher, say)
    read = _read(training, mix)
    live = {name: live_teacher(training, teacher, needs, say) for name, (teacher, needs) in read.items()}
    return as_one(training, mix, live)


def as_live(training: Training, mix: Mix, models: Sequence[nn.Module]) -> Live | Several | None:
    """The same with given models, one for each teacher of the training."""
    if not mix.needs.teacher or not models:
        return None
    if training.several is None:
        return _tapped(training, training.teachers[0], models[0], mix.needs.teacher)
    given = dict(zip(training.several.names, models, strict=True))
    read = _read(training, mix)
    live = {name: _tapped(training, one, given[name], needs) for name, (one, needs) in read.items()}
    return as_one(training, mix, live)


def as_one(training: Training, mix: Mix, teachers: Mapping[str, Teacher]) -> Several:
    """The teachers of a training that a mix reads, as one. teachers: by name."""
    assert training.several is not None
    asked = [each for each in training.several.asked if each.name in teachers]
    how = training.several.how if mix.reads("") else None
    return Several(teachers, Together(asked, how).to(training.ground.machine.device))


def _read(training: Training, mix: Mix) -> dict[str, tuple[Training, frozenset[str]]]:
    """Of several teachers those that a mix reads, each with the layers that it reads."""
    assert training.several is not None
    named = zip(training.several.names, training.teachers, strict=True)
    return {name: (one, needs) for name, one in named if (needs := training.needs_of(mix, name))}


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


def planned_teacher(training: Training, mix: Mix, live: Live | Several, images: Images, say: Say) -> Teacher:
    """The teachers as planned: each live, ahead of the steps, or with a table of answers in its folder."""
    if isinstance(live, Live):
        return planned(training, training.teachers[0], mix.needs.teacher, live, images, say)
    asked: dict[str, Teacher] = {}
    for name, (teacher, needs) in _read(training, mix).items():
        own = live.teachers[name]
        assert isinstance(own, Live)
        asked[name] = planned(training, teacher, needs, own, images, say)
    return as_one(training, mix, asked)


def planned(
    training: Training, teacher: Training, needs: frozenset[str], live: Live, images: Images, say: Say
) -> Teacher:
    """One teacher as planned: live, ahead of the steps, or with a table of answers in its folder."""
    ground, ranks = training.ground, training.ground.machine.ranks
    kind = ranks.shared(lambda: answers_of(training, needs, teacher).kind)  # reads the free disk
    if kind in ("none", "live"):
        return live
    room = ranks.shared(lambda: answer_memory(ground) // row_bytes(training, needs, teacher))
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
    ground, layers = training.ground, widths(training, needs, teacher)
    folder, numbers, device = (
        table_folder(training, layers, teacher),
        ground.run.runtime.table_dtype,
        ground.machine.device,
    )
    views, on_gpu = ground.views.count, device.type != "cpu"
    assert views is not None
    ranks = ground.machine.ranks
    head = classifier(live.network) if CLASSIFIER in needs else None
    for number in count_from(1):
        place = folder if number == 1 else folder.with_name(f"{folder.name}-{number}")
        opening = partial(Table, place, codes(training), layers, folder.name, numbers, say)
        table = (
            opening() if ranks.count == 1 else SharedTable(ranks, opening, codes(training), layers, numbers)
        )
        tabled = Tabled(
            live, images, views, table, chunk(ground), room if on_gpu else 0, head,
            fixed=on_gpu, window=room if on_gpu else 0, whole=on_gpu and reads_most(training),
            tolerance=TOLERANCES[ground.machine.precision],
            ranks=ranks,
        )  # fmt: skip
        if tabled.check(device):
            break
        tabled.close()
        say(f"cache   not used, and kept: its answers differ from those of the teacher here: {place}")
    return tabled


def reads_most(training: Training) -> bool:
    """Whether a training asks for as many answers as a full table has."""
    return training.recipe.epochs * len(training.rows) >= codes(training)


def answers_note(teacher: Teacher) -> str:
    """A note after a training: how many of the teacher's answers came from the cache."""
    if not teacher.saved:
        return ""
    total = teacher.forwards + teacher.saved
    share = f"{100 * teacher.saved / total:.0f} %"
    return f"cache   {count(teacher.saved)} of {count(total)} teacher answers reused ({share})"
