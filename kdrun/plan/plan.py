"""From a run to its trainings, in the order in which they are made. All of them are built and checked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from kdrun.config.schema import UPDATES, Model, Recipe, Run, Teacher
from kdrun.errors import KdrunError
from kdrun.evaluation.evaluators import evaluator
from kdrun.losses.mix import Mix
from kdrun.plan.build import Read, build_mix
from kdrun.plan.ground import Ground, Grounds, ground
from kdrun.plan.objective import (
    Phase,
    controls_phases,
    equation,
    refuse_no_images,
    refuse_one_momentum,
    refuse_unprepared,
    refuse_without_labels,
    students_phases,
    teachers_phases,
)
from kdrun.plan.rehearsal import rehearse
from kdrun.plan.several import refuse_named, refuse_unanswered, several_of, standing
from kdrun.plan.suggest import naming_alternatives
from kdrun.plan.training import ONE_OF_SEVERAL, Training, section
from kdrun.sources import sources
from kdrun.training.seeds import derived
from kdrun.training.several import Asked


@dataclass(frozen=True, eq=False)
class Plan:
    """A checked run.

    trainings: in the order in which they are made: teachers (unless there is a peer), assistants or
    generations, student, control.
    """

    ground: Ground
    trainings: tuple[Training, ...]

    @property
    def run(self) -> Run:
        return self.ground.run

    @property
    def student(self) -> Training:
        return self.named("student")

    @property
    def teacher(self) -> Training:
        """The first of the chain, or the student's peer; of several teachers the first."""
        return self.teachers[0]

    @property
    def teachers(self) -> tuple[Training, ...]:
        """The teachers at the head of the chain: one, as a rule, or the student's peer."""
        peer = self.student.peer
        return (peer,) if peer else tuple(t for t in self.trainings if t.kind == "teacher")

    @property
    def taught_first(self) -> Training:
        """The one that learns from the teachers themselves: the student, or the first in between."""
        heads = (t for t in self.trainings if any(above.kind == "teacher" for above in t.teachers))
        return next(heads, self.student)

    @property
    def control(self) -> Training | None:
        return next((training for training in self.trainings if training.kind == "control"), None)

    @property
    def chain(self) -> tuple[Training, ...]:
        """Teachers or peer, assistants or generations, student. Each of these is taught by the one before it,
        or by all teachers.
        """
        taught = (training for training in self.trainings if training.kind == "student")
        return (*self.teachers, *taught)

    @property
    def folder(self) -> Path:
        """The run's folder: the student's, or the teacher's if the run has no other stage."""
        return self.teacher.folder if self.run.stages == ["teacher"] else self.student.folder

    @property
    def equation(self) -> str:
        return equation(self.student.phases, self.student.mixes)

    def named(self, name: str) -> Training:
        """The training of that name."""
        return next(training for training in self.trainings if training.name == name)

    def makes(self, training: Training) -> bool:
        """Whether the run's stages make a training."""
        stage = "teacher" if training.kind == "teacher" else "student"
        return stage in self.run.stages and not training.loaded

    @property
    def concerned(self) -> tuple[Training, ...]:
        """The trainings that the run's stages make or need, finished or not."""
        stages = self.run.stages
        if stages == ["evaluate"]:
            return ()
        needs_teacher = bool(self.student.teachers) or "teacher" in stages
        if "student" not in stages:
            return tuple(t for t in self.trainings if t.kind == "teacher" and needs_teacher)
        return tuple(t for t in self.trainings if t.kind != "teacher" or needs_teacher)

    @property
    def rounds(self) -> tuple[tuple[Training, ...], ...]:
        """The trainings that the run makes; a round needs only earlier ones. The last has the control."""
        made = [training for training in self.trainings if self.makes(training)]
        first = tuple(t for t in made if t.kind == "teacher")
        last = tuple(t for t in made if t.name in ("student", "control"))
        between = ((t,) for t in made if t not in (*first, *last))
        return tuple(trainings for trainings in (first, *between, last) if trainings)


class Link(NamedTuple):
    """One model of a chain before it is built. seed: of its initial weights and its epochs."""

    name: str
    model: Model
    recipe: Recipe
    seed: int


def make_plan(run: Run, grounds: Grounds | None = None) -> Plan:
    """Builds and checks a run; trains and writes nothing. Raises KdrunError.

    grounds: of other jobs of a sweep, for shared data sets.
    """
    sources(
        asdict(run), run.packages
    )  # read before the import, so that the digests are those of the code that runs
    phases = students_phases(run, run.recipe.student)
    mixes = tuple(phase.mix() for phase in phases)
    refuse_unprepared(mixes)
    refuse_without_labels(run, mixes)
    refuse_one_momentum(run)
    for name in run.evaluation.figures:
        evaluator(name)
    place = ground(run, grounds)
    heads = [link for link in links(run) if link.name.startswith("teacher")]
    *between, last = [link for link in links(run) if link not in heads]
    refuse_no_images(run, place.data, mixes)
    reads_teacher = any(mix.needs.teacher for mix in mixes)
    if run.peer:
        return Plan(place, _with_control(_with_peer(place, last, phases, mixes)))
    above, several = _teachers(place, heads, grounds)
    if between and len(heads) > 1:
        refuse_named(mixes)
    for link in between if reads_teacher else ():
        taught = students_phases(run, link.recipe)
        above += (_taught(place, link, taught, tuple(phase.mix() for phase in taught), above, several),)
        several = ()
    return Plan(place, (*above, *_with_control(_taught(place, last, phases, mixes, above, several))))


def links(run: Run) -> Iterator[Link]:
    """Teachers, assistants (Mirzadeh et al. 2020), earlier generations (Furlanello et al. 2018), student.

    Taught models of the same architecture begin with different weights. So do several teachers of the same
    architecture.
    """
    if not run.teachers:
        yield Link("teacher", run.teacher, run.recipe.teacher, run.teacher.seed or 0)
    heads = [_architecture(model) for model in run.teachers.values()]
    for i, (name, teacher) in enumerate(run.teachers.items()):
        earlier, seed = heads[:i].count(heads[i]), teacher.seed or 0
        own = derived(seed, "teacher", earlier + 1) if earlier and teacher.seed is None else seed
        yield Link(f"{ONE_OF_SEVERAL}{name}", teacher, run.recipe.teachers[name], own)
    several = len(run.assistant) > 1
    names = [f"assistant{i}" if several else "assistant" for i, _ in enumerate(run.assistant, 1)]
    names += [*(f"generation{i}" for i in range(1, run.generations)), "student"]
    reuses, factor = run.student.reuse_classifier, run.student.projector_factor
    between = [replace(model, reuse_classifier=reuses, projector_factor=factor) for model in run.assistant]
    taught = [*between, *[run.student] * run.generations]
    recipes = [*run.recipe.assistant, *[run.recipe.student] * run.generations]
    architectures = [_architecture(model) for model in taught]
    for i, (name, model, recipe) in enumerate(zip(names, taught, recipes, strict=True)):
        seed = run.seed if model.seed is None else model.seed
        earlier = architectures[:i].count(architectures[i])
        yield Link(name, model, recipe, derived(seed, "generation", earlier + 1) if earlier else seed)


def _architecture(model: Model) -> tuple[Any, ...]:
    """Models of which this differs, or that stand on other data sets, may begin with the same weights."""
    own = model.dataset if isinstance(model, Teacher) else None
    return model.family, model.args, model.stem, model.pretrained, own


def _teachers(
    place: Ground, heads: Sequence[Link], grounds: Grounds | None
) -> tuple[tuple[Training, ...], tuple[Asked, ...]]:
    """The teachers, and what each knows, if there are several or one of other classes or other images than
    the data set's.
    """
    teachers: list[Training] = []
    known: list[Asked] = []
    for link in heads:
        assert isinstance(link.model, Teacher)
        own, relation = standing(place, link.model, section(link.name), grounds, alone=len(heads) == 1)
        label = _label("teacher", link.model.name, own.run.dataset["name"])
        teachers.append(_alone(own, link, "teacher", label, teachers_phases(link.recipe)))
        known.append(Asked(link.name.removeprefix(ONE_OF_SEVERAL), relation, link.model.weight))
    same = known[0].relation.same and teachers[0].ground.data.image_shape == place.data.image_shape
    several = len(known) > 1 or not same
    return tuple(teachers), tuple(known) if several else ()


def _control(student: Training) -> Training:
    """The same student, from the same initial weights, in the same number of steps, without a teacher."""
    run, model = student.ground.run, replace(student.model, reuse_classifier=False)
    link = Link("control", model, student.recipe, student.seed)
    label = _label("control", model.name, run.dataset["name"])
    return _alone(student.ground, link, "control", label, controls_phases(run))


def _alone(place: Ground, link: Link, kind: str, label: str, phases: tuple[Phase, ...]) -> Training:
    """A training that learns from the labels alone."""
    built = place.models.plan(link.model, section(link.name), link.seed)
    mixes = tuple(
        build_mix(phase.mix(), built.model, built.model, place.models, link.seed) for phase in phases
    )
    return Training(place, link.name, kind, label, link.model, link.recipe, link.seed, phases, built, mixes)


def _taught(
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
        label=_students_label(place.run, [*_names_above(above), link.model.name]),
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


def _names_above(above: Sequence[Training]) -> Iterator[str]:
    """The models above a student, several teachers as one word: `a+b`, `2xa`."""
    heads = [training.model.name for training in above if training.kind == "teacher"]
    counted = [name if (n := heads.count(name)) == 1 else f"{n}x{name}" for name in dict.fromkeys(heads)]
    yield "+".join(counted)
    yield from (training.model.name for training in above if training.kind != "teacher")


def _with_peer(place: Ground, link: Link, phases: tuple[Phase, ...], mixes: tuple[Mix, ...]) -> Training:
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
    recipe, label = replace(link.recipe, **updates), _label("peer", run.teacher.name, run.dataset["name"])
    peer = Training(place, "peer", "peer", label, run.teacher, recipe, seed, phases, other, peers_mixes)
    label = _students_label(run, [run.teacher.name, link.model.name])
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


def _with_control(student: Training) -> tuple[Training, ...]:
    return (student, _control(student)) if student.ground.run.control else (student,)


def _students_label(run: Run, models: Sequence[str]) -> str:
    """Data set, teacher, taught models, method. The same model three times in a row is `3xresnet8`."""
    teacher, *taught = models
    repeated = ((name, len(list(group))) for name, group in groupby(taught))
    names = [name if count == 1 else f"{count}x{name}" for name, count in repeated]
    return _label(run.dataset["name"], teacher, *names, run.method or "own")


def _label(*parts: str) -> str:
    """The parts of a folder's name, without slashes and blanks."""
    return "-".join(parts).replace("/", "_").replace(" ", "_")
