"""From trainings to the loop: models, images and the teacher are put together, and trained.

One training as a rule; several that share images, schedule and teacher where a sweep has them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from rich.console import Console

from kdrun.losses.mix import Mix
from kdrun.models.fold import folded
from kdrun.models.reused import Reused
from kdrun.models.taps import Tapped, classifier
from kdrun.stages.asking import asked
from kdrun.stages.assemble import threads_of
from kdrun.stages.images import training_images
from kdrun.stages.machine import environment
from kdrun.stages.pupil import Member, Pupil
from kdrun.stages.trained import load_trained, threaded
from kdrun.training.fit import Course, fit
from kdrun.training.progress import Screen, screen
from kdrun.training.seeds import derived
from kdrun.training.step import Step
from kdrun.training.teachers import Live, NoTeacher


def train(members: Sequence[Member], shown: Screen) -> None:
    """Trains the members in one loop and writes what they learned.

    All stand at the same step, and have machine, data, rows, schedule and teacher in common.
    """
    first, states = members[0], [member.state for member in members]
    place, state = first.assembly.place, states[0]
    threads = threads_of(first.training, place)
    if state is not None and place.threads is None:
        threads = state["facts"]["threads"]
    facts = environment(place, threads)
    if state is not None:
        _say_changes(state["facts"], facts, shown)
    with threaded(threads), torch.random.fork_rng(enabled=True):
        torch.manual_seed(derived(first.training.seed, "dropout"))
        _train(members, states, facts, shown)


def _train(
    members: Sequence[Member],
    states: Sequence[dict[str, Any] | None],
    facts: dict[str, Any],
    shown: Screen,
) -> None:
    first, alone = members[0], len(members) == 1
    assembly, device = first.assembly, first.assembly.place.device
    with ExitStack() as closing:
        pupils = [Pupil(member, state, alone) for member, state in zip(members, states, strict=True)]
        live = _live(first, pupils[0].mix)
        for pupil in pupils:
            closing.callback(pupil.tapped.close)
            _lend_classifier(live, pupil)
        images = training_images(assembly)
        closing.callback(images.close)
        told = asked(assembly, pupils[0].mix, live, images, shown) if live else NoTeacher()
        closing.callback(told.close)
        labels = assembly.data.train.labels.to(device)
        step = Step(tuple(p.learner for p in pupils), told, images, labels, assembly.place.autocast())
        screens = [shown, *[screen(Console(quiet=True))] * (len(pupils) - 1)]
        strands = [p.strand(facts, s, step, live) for p, s in zip(pupils, screens, strict=True)]
        positions = [strand.checkpoint.restore(state) for strand, state in zip(strands, states, strict=True)]
        closing.callback(shown.end)
        seconds = fit(_course(first), step, strands, positions[0])
        for pupil, strand in zip(pupils, strands, strict=True):
            pupil.finish(strand, seconds / len(pupils), told, facts, _companions(pupil.member, members))


def _course(member: Member) -> Course:
    training, assembly = member.training, member.assembly
    epochs = training.recipe.epochs
    return Course(epochs, epochs, assembly.row_set(training), assembly.views, training.recipe)


def _companions(member: Member, members: Sequence[Member]) -> list[str]:
    """Folders of those that were trained along with it."""
    return [other.training.folder.name for other in members if other is not member]


def _live(member: Member, mix: Mix) -> Live | None:
    if not mix.needs.teacher or member.teacher is None:
        return None
    assembly = member.assembly
    model = load_trained(assembly, member.teacher, assembly.headline)
    model = folded(model, assembly.image_shape, mix.needs.teacher)
    return Live(Tapped(model, mix.needs.teacher, "loss"), assembly.place.autocast())


def _lend_classifier(live: Live | None, pupil: Pupil) -> None:
    """Gives the teacher's trained classifier to a student that begins and is to be read by it."""
    if pupil.state is None and live is not None and isinstance(pupil.model, Reused):
        head = classifier(live.network)
        if head is not None:
            pupil.model.take(head)


def _say_changes(before: Mapping[str, Any], now: Mapping[str, Any], shown: Screen) -> None:
    changed = [
        f"{key} {before[key]} -> {now[key]}" for key in now if key in before and before[key] != now[key]
    ]
    if changed:
        shown.say(f"continued under other conditions, so bits may differ: {', '.join(changed)}")
