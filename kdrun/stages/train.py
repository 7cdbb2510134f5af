"""From trainings to the loop: models, images and the teacher are put together, and trained.

One training as a rule; several that share images, schedule and teacher where a sweep has them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from rich.console import Console

from kdrun.data.batches import starved, training_images
from kdrun.graphs import Graphs, one_lane
from kdrun.machine import environment
from kdrun.models.fold import cast_once, folded
from kdrun.models.reused import Reused
from kdrun.models.taps import Tapped, classifier
from kdrun.plan.answers import asked, spared
from kdrun.plan.plan import Assembly
from kdrun.plan.training import threads_of
from kdrun.progress.screen import Screen, screen
from kdrun.stages.groups import stackable
from kdrun.stages.saved import load_trained, threaded
from kdrun.stages.trainee import Member, Pupil
from kdrun.training.captured import captured
from kdrun.training.checkpoint import Position
from kdrun.training.compiled import compile_models
from kdrun.training.fit import Course, fit
from kdrun.training.mutual import Mutual
from kdrun.training.seeds import derived
from kdrun.training.step import Images, Step, Stepping
from kdrun.training.teachers import Live, NoTeacher

States = Sequence[dict[str, Any] | None]


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


def _train(members: Sequence[Member], states: States, facts: dict[str, Any], shown: Screen) -> None:
    """One phase after the other, from the one in which the states were written."""
    phases, alone = members[0].training.phases, len(members) == 1
    at = Position(*states[0]["position"]) if states[0] else Position()
    before: Sequence[Pupil | None] = [None] * len(members)
    seeds = list(dict.fromkeys(member.training.seed for member in members))
    streams = [seeds.index(member.training.seed) for member in members]
    for number, phase in enumerate(phases):
        if phase is not phases[-1] and (at.epoch, at.step) > (phase.until, 0):
            continue
        each = zip(members, states, before, streams, strict=True)
        pupils = [Pupil(m, m.training.phases[number], s, alone, b, stream) for m, s, b, stream in each]
        seconds = _train_phase(pupils, states, at, facts, shown)
        at, states, before = Position(phase.until, 0, seconds), [None] * len(members), pupils
    for pupil in pupils:
        pupil.finish(seconds / len(pupils), facts, _companions(pupil.member, members))


def _train_phase(
    pupils: Sequence[Pupil], states: States, at: Position, facts: dict[str, Any], shown: Screen
) -> float:
    """From a position to the end of the phase. Returns the seconds that the training has taken by then."""
    first = pupils[0]
    assembly, device = first.member.assembly, first.member.assembly.place.device
    with ExitStack() as closing:
        live = _live(first, shown)
        for pupil in pupils:
            closing.callback(pupil.close)
            _lend_classifier(live, pupil)
        images = training_images(assembly)
        closing.callback(images.close)
        told = asked(assembly, first.mix, live, images, shown) if live else NoTeacher()
        closing.callback(told.close)
        labels = assembly.data.train.labels.to(device)
        learners = tuple(learner for pupil in pupils for learner in pupil.learners)
        graphs = assembly.place.graphs(assembly.run.runtime.graph)
        lanes = one_lane if graphs is None else graphs.lanes
        step = Step(learners, told, images, labels, lanes)
        screens = [shown, *[screen(Console(quiet=True))] * (len(pupils) - 1)]
        strands = [p.strand(facts, s, step, live) for p, s in zip(pupils, screens, strict=True)]
        for strand, state in zip(strands, states, strict=True):
            strand.checkpoint.restore(state)
        closing.callback(shown.end)
        faster = _faster(stepping(step, pupils), images, assembly, graphs, shown)
        seconds = fit(_course(first), faster, strands, at)
        for pupil in pupils:
            pupil.passed(told, images)
        shown.end()
        for note in filter(None, (spared(told), starved(images))):
            shown.say(note)
        return seconds


def stepping(step: Step, pupils: Sequence[Pupil]) -> Stepping:
    """The step, or one that does the same faster, or lets learners teach each other."""
    first = pupils[0].member
    if len(pupils[0].learners) > 1:
        return Mutual(step, first.assembly.teacher.recipe.lr / first.training.recipe.lr)
    if len(pupils) > 1 and stackable(first):
        from kdrun.training.stacked import Stacked

        return Stacked(step)
    return step


def _faster(
    step: Stepping, images: Images, assembly: Assembly, graphs: Graphs | None, shown: Screen
) -> Stepping:
    """The step with compiled models where that is asked for, and on a GPU as a graph."""
    if assembly.run.runtime.compile and isinstance(step, (Step, Mutual)):
        compile_models(step)
    return step if graphs is None else captured(step, images, graphs, shown.say)


def _course(pupil: Pupil) -> Course:
    training, assembly = pupil.member.training, pupil.member.assembly
    rows = assembly.row_set(training, pupil.mix)
    return Course(
        training.epochs, training.recipe.epochs, rows, assembly.views, training.recipe, pupil.phase.until
    )


def _companions(member: Member, members: Sequence[Member]) -> list[str]:
    """Folders of those that were trained along with it."""
    return [other.training.folder.name for other in members if other is not member]


def _live(pupil: Pupil, shown: Screen) -> Live | None:
    assembly, teacher, read = pupil.member.assembly, pupil.member.teacher, pupil.mix.needs.teacher
    if not read or teacher is None:
        return None
    model = load_trained(assembly, teacher, assembly.headline)
    model = folded(model, assembly.image_shape, read, shown.say)
    if assembly.place.precision == "bf16":
        model = cast_once(model, torch.bfloat16)
    return Live(Tapped(model, read, "loss"), assembly.place.autocast())


def _lend_classifier(live: Live | None, pupil: Pupil) -> None:
    """Gives the teacher's trained classifier to a student that begins and is to be read by it."""
    if pupil.begins and live is not None and isinstance(pupil.model, Reused):
        head = classifier(live.network)
        if head is not None:
            pupil.model.take(head)


def _say_changes(before: Mapping[str, Any], now: Mapping[str, Any], shown: Screen) -> None:
    changed = [
        f"{key} {before[key]} -> {now[key]}" for key in now if key in before and before[key] != now[key]
    ]
    if changed:
        shown.say(f"continued under other conditions, so bits may differ: {', '.join(changed)}")
