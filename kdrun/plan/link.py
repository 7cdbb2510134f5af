"""One link of a chain as a training: of the labels alone, of teachers above it, or beside a peer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any, NamedTuple

from kdrun.config.schema import UPDATES, Model, Recipe, Run
from kdrun.errors import KdrunError
from kdrun.losses.mix import Mix
from kdrun.models.build import Built
from kdrun.plan.build import rehearse
from kdrun.plan.ground import Ground
from kdrun.plan.objective import Phase
from kdrun.plan.several import refuse_unanswered, several_of
from kdrun.plan.suggest import naming_alternatives
from kdrun.plan.training import Training, section
from kdrun.training.seeds import derived
from kdrun.training.several import AskedTeacher


class Link(NamedTuple):
    """One model of a chain before it is built. seed: of its initial weights and its epochs."""

    name: str
    model: Model
    recipe: Recipe
    seed: int


def alone(place: Ground, link: Link, kind: str, label: str, phases: tuple[Phase, ...]) -> Training:
    """A training that learns from the labels alone."""
    built = place.models.plan(link.model, section(link.name), link.seed)
    return _training(place, link, kind, label, phases, built).with_mixes()


def taught(
    place: Ground,
    link: Link,
    phases: tuple[Phase, ...],
    above: Sequence[Training],
    several: tuple[AskedTeacher, ...] = (),
) -> Training:
    """A training that learns from the last of those above it, or from several teachers."""
    run, teachers = place.run, tuple(above) if several else (above[-1],)
    mixes = [phase.mix() for phase in phases]
    asked = several_of(run.combine, mixes, several)
    if link.model.reuse_classifier and asked is not None:
        problem = "goes with a teacher that has the student's own classes and images"
        raise KdrunError("student.reuse_classifier", "true", problem)
    refuse_unanswered(run, place.data, asked)
    built = _student(place, link, teachers[0], mixes[-1])
    label = students_label(run, [*_names_above(above), link.model.name])
    own = {"teachers": teachers, "several": asked, "momentum_delta": run.momentum_delta}
    training = _training(place, link, "student", label, phases, built, **own).with_mixes()
    if asked is None:  # the first step tries a loss that reads several teachers
        rehearse(run, phases, built.model, teachers[0].built.model, place.models)
    return training if training.teacher_needs else replace(training, teachers=(), several=None)


def _student(place: Ground, link: Link, teacher: Training, mix: Mix) -> Built:
    """The model of a link, which may have the classifier of its teacher. mix: of its last phase."""
    plain = place.models.plan(replace(link.model, reuse_classifier=False), section(link.name), link.seed)
    if not link.model.reuse_classifier:
        return plain
    with naming_alternatives(mix, plain.model, teacher.built.model, place.data.image_shape):
        return place.models.plan(link.model, section(link.name), link.seed, teacher.built)


def with_peer(place: Ground, link: Link, phases: tuple[Phase, ...]) -> Training:
    """A student and a peer of the teacher's architecture, which learn from each other in the same steps.

    The peer has its own initial weights, and the teacher's optimiser and learning rate.
    """
    run = place.run
    recipe = replace(link.recipe, **{name: getattr(run.recipe.teacher, name) for name in UPDATES})
    seed = derived(link.seed if run.teacher.seed is None else run.teacher.seed, "peer")
    built = place.models.plan(link.model, section(link.name), link.seed)
    other = place.models.plan(run.teacher, "teacher", seed)
    label = label_of("peer", run.teacher.name, run.dataset["name"])
    peer = _training(place, Link("peer", run.teacher, recipe, seed), "peer", label, phases, other)
    label = students_label(run, [run.teacher.name, link.model.name])
    student = _training(place, link, "student", label, phases, built, peer=peer).with_mixes()
    rehearse(run, phases, built.model, peer.built.model, place.models)
    return replace(student, peer=peer.with_mixes(student))


def _training(
    place: Ground, link: Link, kind: str, label: str, phases: tuple[Phase, ...], built: Built, **more: Any
) -> Training:
    return Training(place, link.name, kind, label, link.model, link.recipe, link.seed, phases, built, **more)


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
