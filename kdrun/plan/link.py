"""One link of a chain as a training: of the labels alone, of teachers above it, or beside a peer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from typing import NamedTuple

from kdrun.config.schema import UPDATES, Model, Recipe, Run
from kdrun.errors import KdrunError
from kdrun.losses.mix import Mix
from kdrun.plan.build import Read, build_mix
from kdrun.plan.ground import Ground
from kdrun.plan.objective import Phase
from kdrun.plan.rehearsal import rehearse
from kdrun.plan.several import refuse_unanswered, several_of
from kdrun.plan.suggest import naming_alternatives
from kdrun.plan.training import Training, section
from kdrun.training.seeds import derived
from kdrun.training.several import Asked


class Link(NamedTuple):
    """One model of a chain before it is built. seed: of its initial weights and its epochs."""

    name: str
    model: Model
    recipe: Recipe
    seed: int


def alone(place: Ground, link: Link, kind: str, label: str, phases: tuple[Phase, ...]) -> Training:
    """A training that learns from the labels alone."""
    built = place.models.plan(link.model, section(link.name), link.seed)
    mixes = tuple(
        build_mix(phase.mix(), built.model, built.model, place.models, link.seed) for phase in phases
    )
    return Training(place, link.name, kind, label, link.model, link.recipe, link.seed, phases, built, mixes)


def taught(
    place: Ground,
    link: Link,
    phases: tuple[Phase, ...],
    mixes: tuple[Mix, ...],
    above: Sequence[Training],
    several: tuple[Asked, ...] = (),
) -> Training:
    """A training that learns from the last of those above it, or from several teachers."""
    teachers = tuple(above) if several else (above[-1],)
    teacher, shape, reuses = teachers[0], place.data.image_shape, link.model.reuse_classifier
    asked = several_of(place.run.combine, mixes, several)
    if reuses and asked is not None:
        problem = "goes with a teacher that has the student's own classes and images"
        raise KdrunError("student.reuse_classifier", "true", problem)
    refuse_unanswered(place.run, place.data, asked)
    plain = place.models.plan(replace(link.model, reuse_classifier=False), section(link.name), link.seed)
    built = plain
    if reuses:
        with naming_alternatives(mixes[-1], plain.model, teacher.built.model, shape):
            built = place.models.plan(link.model, section(link.name), link.seed, teacher.built)
    read = None
    if asked is not None:
        own = (Read(each.built.model, each.ground.models) for each in teachers)
        read = dict(zip(asked.names, own, strict=True))
    for mix in mixes:
        build_mix(mix, built.model, teacher.built.model, place.models, link.seed, read)
    if asked is None:  # the first step tries a loss that reads several teachers
        rehearse(place.run, phases, built.model, teacher.built.model, place.models)
    reads_teacher = any(mix.needs.teacher for mix in mixes)
    return Training(
        ground=place,
        name=link.name,
        kind="student",
        label=students_label(place.run, [*_names_above(above), link.model.name]),
        model=link.model,
        recipe=link.recipe,
        seed=link.seed,
        phases=phases,
        built=built,
        mixes=mixes,
        teachers=teachers if reads_teacher else (),
        several=asked if reads_teacher else None,
        momentum_delta=place.run.momentum_delta,
    )


def with_peer(place: Ground, link: Link, phases: tuple[Phase, ...], mixes: tuple[Mix, ...]) -> Training:
    """A student and a peer of the teacher's architecture, which learn from each other in the same steps.

    The peer has its own initial weights, and the teacher's optimiser and learning rate.
    """
    run = place.run
    updates = {name: getattr(run.recipe.teacher, name) for name in UPDATES}
    seed = derived(link.seed if run.teacher.seed is None else run.teacher.seed, "peer")
    built = place.models.plan(link.model, section(link.name), link.seed)
    other = place.models.plan(run.teacher, "teacher", seed)
    for mix in mixes:
        build_mix(mix, built.model, other.model, place.models, link.seed)
    rehearse(run, phases, built.model, other.model, place.models)
    peers_mixes = tuple(
        build_mix(phase.mix(), other.model, built.model, place.models, seed) for phase in phases
    )
    recipe, label = replace(link.recipe, **updates), label_of("peer", run.teacher.name, run.dataset["name"])
    peer = Training(place, "peer", "peer", label, run.teacher, recipe, seed, phases, other, peers_mixes)
    label = students_label(run, [run.teacher.name, link.model.name])
    return Training(
        place,
        link.name,
        "student",
        label,
        link.model,
        link.recipe,
        link.seed,
        phases,
        built,
        mixes,
        peer=peer,
    )


def _names_above(above: Sequence[Training]) -> Iterator[str]:
    """The models above a student, several teachers as one word: `a+b`, `2xa`. A control teaches alone."""
    heads = [training.model.name for training in above if training.kind == "teacher"]
    counted = [name if (n := heads.count(name)) == 1 else f"{n}x{name}" for name in dict.fromkeys(heads)]
    if heads:
        yield "+".join(counted)
    yield from (training.model.name for training in above if training.kind != "teacher")


def students_label(run: Run, models: Sequence[str]) -> str:
    """Data set, teacher, taught models, method. The same model three times in a row is `3xresnet8`."""
    teacher, *taught = models
    repeated = ((name, len(list(group))) for name, group in groupby(taught))
    names = [name if count == 1 else f"{count}x{name}" for name, count in repeated]
    return label_of(run.dataset["name"], teacher, *names, run.method or "own")


def label_of(*parts: str) -> str:
    """The parts of a folder's name, without slashes and blanks."""
    return "-".join(parts).replace("/", "_").replace(" ", "_")
