"""One training loop: puts together trainees, images, teacher and step for each phase.

A loop has one training as a rule; in a sweep several can share images, schedule and teacher.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple

import torch

from kdrun.config.choices import shown_role
from kdrun.data.batches import training_images, wait_note, wait_share
from kdrun.graphs import Graphs, one_lane
from kdrun.machine import environment, torch_threads
from kdrun.models.reused import Reused
from kdrun.models.taps import classifier
from kdrun.plan.training import Training
from kdrun.progress.watchers import Observers
from kdrun.ranks import split
from kdrun.stages.groups import batched
from kdrun.stages.mining import mined
from kdrun.stages.saved import state_file
from kdrun.stages.savings import save
from kdrun.stages.teacher import Say, answers_note, live_teachers, planned_teacher
from kdrun.stages.trainee import Trainee, begin, finish, next_phase, strand
from kdrun.training.captured import captured
from kdrun.training.checkpoint import Best, Position, read_state
from kdrun.training.compiled import compile_losses, compile_models
from kdrun.training.fit import Course, Strand, fit
from kdrun.training.mutual import Mutual
from kdrun.training.ranks import Ranked, part_of, synchronised
from kdrun.training.savings import SAVINGS
from kdrun.training.seeds import derived, kept_generators
from kdrun.training.step import Images, Step, Stepping
from kdrun.training.teachers import Live, Teacher

States = Sequence[Mapping[str, Any] | None]


class Trained(NamedTuple):
    """The result of a phase. seconds: since the beginning of the training. best: for each trainee. asked: how
    the teacher answered in all phases so far.
    """

    seconds: float
    best: list[Best | None]
    asked: Mapping[str, Any]
    waited: Mapping[str, float]


def train(trainings: Sequence[Training], observers: Observers) -> None:
    """Trains them in one loop and writes their weights and records.

    All are at the same step, and share machine, data, rows, epochs and teacher.
    """
    first, machine = trainings[0], trainings[0].ground.machine
    states = machine.ranks.shared(lambda: [read_state(state_file(training)) for training in trainings])
    state = states[0]
    threads = first.threads
    if state is not None and machine.threads is None:
        threads = state["facts"]["threads"]
    facts = environment(machine, threads) | {"ranks": machine.ranks.count}
    if state is not None:
        _say_changes(state["facts"], facts, observers.screen.say)
    with torch_threads(threads), machine.numerics(), kept_generators():
        torch.manual_seed(derived(first.seed, "dropout"))
        _phases(trainings, states, facts, observers)


def _phases(
    trainings: Sequence[Training], states: States, facts: dict[str, Any], observers: Observers
) -> None:
    """One phase after the other, from the phase of the states on."""
    first, alone = trainings[0], len(trainings) == 1
    at = Position(*states[0]["position"]) if states[0] else Position()
    trainees: list[Trainee] = []
    seeds = list(dict.fromkeys(training.seed for training in trainings))
    streams = [seeds.index(training.seed) for training in trainings]
    asked: Mapping[str, Any] = {}
    for number, phase in enumerate(first.phases):
        if phase is not first.phases[-1] and (at.epoch, at.step) > (phase.until, 0):
            continue
        own = [training.phases[number] for training in trainings]
        if trainees:
            trainees = [next_phase(*pair) for pair in zip(trainees, own, strict=True)]
        else:
            resumed = states[0] is not None
            for training, start, stream in zip(trainings, own, streams, strict=True):
                rates = (
                    None if training.recipe == first.recipe else training.recipe
                )  # the loop has the first's
                trainees.append(begin(training, start, stream, resumed=resumed, alone=alone, rates=rates))
        trained = _phase(trainees, states, at, facts, observers, asked)
        at, states, asked = Position(phase.until, 0, trained.seconds), [None] * len(trainings), trained.asked
    for trainee, best in zip(trainees, trained.best, strict=True):
        about = {
            "train_seconds": round(trained.seconds / len(trainees), 3),
            "teacher": asked,
            "companions": [other.folder.name for other in trainings if other is not trainee.training],
            **trained.waited,
            "environment": facts,
        }
        finish(trainee, best, about)


def _phase(
    trainees: Sequence[Trainee],
    states: States,
    at: Position,
    facts: dict[str, Any],
    observers: Observers,
    before: Mapping[str, Any],
) -> Trained:
    """Trains from a position to the end of the phase."""
    screen, ranks = observers.screen, trainees[0].training.ground.machine.ranks
    with ExitStack() as closing:
        loop = laid_out(trainees, states, facts, observers, closing)
        closing.callback(screen.end)
        seconds = fit(loop.course, loop.step, loop.strands, at)
        screen.end()
        loop.teacher.forwards = int(ranks.total(torch.tensor(loop.teacher.forwards)))
        for note in filter(None, (answers_note(loop.teacher), wait_note(loop.images))):
            screen.say(note)
        asked, best = loop.teacher.record(), [each.checkpoint.best for each in loop.strands]
        asked |= {count: asked[count] + before.get(count, 0) for count in ("forwards", "forwards_saved")}
        return Trained(seconds, best, asked, wait_share(loop.images, epochs=True))


class Loop(NamedTuple):
    """The arguments of `fit`, and what they work on. step: the fastest one; plain: the step that it wraps."""

    course: Course
    step: Stepping
    strands: list[Strand]
    plain: Step
    teacher: Teacher
    images: Images


def laid_out(
    trainees: Sequence[Trainee],
    states: States,
    facts: dict[str, Any],
    observers: Observers,
    closing: ExitStack,
    savings: Collection[str] = SAVINGS,
) -> Loop:
    """Puts together the loop of a phase, and restores the states. closing: closes what is opened here.
    savings: for a step on a GPU.
    """
    first, say = trainees[0], observers.screen.say
    training, ground = first.training, first.training.ground
    live = live_teachers(training, first.mix, say)
    for trainee in trainees:
        closing.callback(trainee.close)
        _lend_classifier(live, trainee)
    images = training_images(ground.data, ground.views, ground.machine.device, training.part)
    closing.callback(images.close)
    teacher = planned_teacher(training, first.mix, live, images, say)
    closing.callback(teacher.close)
    labels = training.labels.to(ground.machine.device)
    learners, ranks = tuple(each for trainee in trainees for each in trainee.learners), ground.machine.ranks
    graphs = ground.machine.graphs(ground.run.runtime.graph) if ranks.count == 1 else None
    plain = Step(learners, teacher, images, labels, one_lane if graphs is None else graphs.lanes)
    strands = [
        strand(trainee, facts, observers.of(trainee.training, name), plain, live, say)
        for trainee, name in zip(trainees, _shown_as(trainees), strict=True)
    ]
    for each, state in zip(strands, states, strict=True):
        each.checkpoint.restore(dict(state) if state else None)
    if ranks.count > 1:
        return Loop(_course(first), _ranked(plain, trainees), strands, plain, teacher, images)
    step = fastest(plain, trainees, graphs, say, savings, compiled=ground.run.runtime.compile)
    return Loop(_course(first), step, strands, plain, teacher, images)


def fastest(
    plain: Step,
    trainees: Sequence[Trainee],
    graphs: Graphs | None,
    say: Say,
    savings: Collection[str] = SAVINGS,
    *,
    compiled: bool = False,
) -> Stepping:
    """The step with the possible savings, compiled if that is asked for, and as a CUDA graph on a GPU."""
    training, ground = trainees[0].training, trainees[0].training.ground
    if ground.machine.device.type == "cuda" and training.for_int8 is None:
        save(savings, plain.learners, plain.teacher, plain.images, ground)
    step = stepping(plain, trainees)
    if compiled and training.for_int8 is None and isinstance(step, (Step, Mutual)):
        compile_models(step, training.recipe.batch)
        compile_losses(step, training.recipe.batch)
    return step if graphs is None else captured(step, plain.images, graphs, say)


def stepping(step: Step, trainees: Sequence[Trainee]) -> Stepping:
    """The step; or a batched one, which is faster; or one whose learners teach each other."""
    first = trainees[0].training
    if first.peer is not None:
        return Mutual(step, first.peer.recipe.lr / first.recipe.lr)
    if len(trainees) > 1 and batched([trainee.training for trainee in trainees]):
        from kdrun.training.stacked import Stacked

        return Stacked(step)
    return step


def _ranked(plain: Step, trainees: Sequence[Trainee]) -> Ranked:
    """The step of which each rank computes a part; no graph holds it. Rank 0's weights are those of all."""
    training, ground = trainees[0].training, trainees[0].training.ground
    ranks, runtime = ground.machine.ranks, ground.run.runtime
    for learner in plain.learners:
        if runtime.sync_bn:
            synchronised(learner, ranks, "runtime.sync_bn")
        ranks.copy([*learner.model.state_dict().values(), *learner.mix.state_dict().values()])
    step, plain.part = stepping(plain, trainees), lambda rows: part_of(rows, ranks)
    if runtime.compile:
        compile_models(step, split(training.recipe.batch, ranks.count)[ranks.rank])
    return Ranked(step, ranks, training.seed)


def _shown_as(trainees: Sequence[Trainee]) -> list[str | None]:
    """Names on the screen: the first stands for all of them."""
    first = trainees[0].training
    name = shown_role(first.name) if len(trainees) == 1 else f"{len(trainees)} {first.kind}s"
    return [name, *[None] * (len(trainees) - 1)]


def _course(trainee: Trainee) -> Course:
    training, phase = trainee.training, trainee.phase
    chosen = training.ground.machine.ranks.shared(lambda: mined(training))
    rows, views = training.row_set(trainee.mix, chosen), training.ground.views
    rates = phase.rates(training.recipe)
    return Course(training.epochs, training.recipe.epochs, rows, views, rates, phase.until)


def _lend_classifier(live: Teacher | None, trainee: Trainee) -> None:
    """Gives the teacher's trained classifier to a student that begins and reuses it."""
    if trainee.begins and isinstance(live, Live) and isinstance(trainee.model, Reused):
        head = classifier(live.network)
        if head is not None:
            trainee.model.take(head)


def _say_changes(before: Mapping[str, Any], now: Mapping[str, Any], say: Say) -> None:
    changed = [
        f"{key} {before[key]} -> {now[key]}" for key in now if key in before and before[key] != now[key]
    ]
    if changed:
        say(f"continued under other conditions, so bits may differ: {', '.join(changed)}")
