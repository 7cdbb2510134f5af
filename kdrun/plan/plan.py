"""From a run to its trainings, in the order in which they are made. All of them are built and checked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from kdrun.config.choices import PLAIN
from kdrun.config.schema import Model, Run, TeacherModel
from kdrun.evaluation.evaluators import evaluator
from kdrun.plan.controls import controls
from kdrun.plan.ground import Ground, Grounds, ground
from kdrun.plan.int8 import int8_trainings
from kdrun.plan.link import Link, alone, label_of, taught, with_peer
from kdrun.plan.objective import (
    equation,
    refuse_no_images,
    refuse_one_momentum,
    refuse_unprepared,
    refuse_without_labels,
    students_phases,
    teachers_phases,
)
from kdrun.plan.reference import ReplacedModel, reference_of
from kdrun.plan.several import refuse_named, standing
from kdrun.plan.training import ONE_OF_SEVERAL, Training, section
from kdrun.sources import sources
from kdrun.training.seeds import derived
from kdrun.training.several import AskedTeacher


@dataclass(frozen=True, eq=False)
class Plan:
    """A checked run.

    trainings: in the order in which they are made: teachers (unless there is a peer), assistants or
    generations, student, controls. reference: the trained model that the student is to replace. for_int8:
    student and control trained for 8 bits, if that is asked for.
    """

    ground: Ground
    trainings: tuple[Training, ...]
    reference: ReplacedModel | None = None
    for_int8: tuple[Training, ...] = ()

    @property
    def every(self) -> tuple[Training, ...]:
        """All trainings, also those for 8 bits."""
        return (*self.trainings, *self.for_int8)

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
        if peer:
            return (peer,)
        return tuple(training for training in self.trainings if training.kind == "teacher")

    @property
    def taught_first(self) -> Training:
        """The one that learns from the teachers themselves: the student, or the first in between."""
        heads = (t for t in self.trainings if any(above.kind == "teacher" for above in t.teachers))
        return next(heads, self.student)

    @property
    def control(self) -> Training | None:
        """The plain control."""
        return next((training for training in self.trainings if training.name == PLAIN), None)

    @property
    def controls(self) -> tuple[Training, ...]:
        """All that the student is compared with."""
        return tuple(training for training in self.trainings if training.is_control)

    @property
    def chain(self) -> tuple[Training, ...]:
        """Teachers or peer, assistants or generations, student. Each of these is taught by the one before it,
        or by all teachers.
        """
        students = (t for t in self.trainings if t.kind == "student" and not t.is_control)
        return (*self.teachers, *students)

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

    @property
    def concerned(self) -> tuple[Training, ...]:
        """The trainings that the run's stages make or need, finished or not."""
        stages = self.run.stages
        if stages == ["evaluate"]:
            return ()
        needs_teacher = bool(self.student.teachers) or "teacher" in stages
        wanted = {"teacher"} if needs_teacher else set()
        if "student" in stages:
            wanted |= {"student", "control"}
        return tuple(training for training in self.every if training.kind in wanted)

    @property
    def rounds(self) -> tuple[tuple[Training, ...], ...]:
        """The trainings that the run makes; a round needs only earlier ones. The student's has the controls
        without a teacher; then comes the one that such a control teaches; at last those for 8 bits.
        """
        left = [training for training in self.trainings if not training.loaded]
        made = [t for t in left if ("teacher" if t.kind == "teacher" else "student") in self.run.stages]
        first = tuple(t for t in made if t.kind == "teacher")
        after = tuple(t for t in made if t.is_control and t.teachers)
        last = tuple(t for t in made if (t.name == "student" or t.is_control) and t not in after)
        between = ((t,) for t in made if t not in (*first, *last, *after))
        for_int8 = self.for_int8 if "student" in self.run.stages else ()
        return tuple(trainings for trainings in (first, *between, last, after, for_int8) if trainings)


def make_plan(run: Run, grounds: Grounds | None = None) -> Plan:
    """Builds and checks a run; trains and writes nothing. Raises KdrunError.

    grounds: of other jobs of a sweep, for shared data sets.
    """
    if run.packages:  # read before the import, so that the digests are those of the code that runs
        sources(asdict(run), run.packages)
    phases = students_phases(run, run.recipe.student)
    mixes = tuple(phase.mix() for phase in phases)
    refuse_unprepared(mixes)
    refuse_without_labels(run, mixes)
    refuse_one_momentum(run)
    for name in run.evaluation.figures:
        evaluator(name)
    grounds = {} if grounds is None else grounds
    place = ground(run, grounds)
    heads = [link for link in links(run) if link.name.startswith("teacher")]
    *between, last = [link for link in links(run) if link not in heads]
    refuse_no_images(run, place.data, mixes)
    reads_teacher = any(mix.needs.teacher for mix in mixes)
    replaced = reference_of(run, place, grounds)
    if run.peer:
        student = with_peer(place, last, phases)
        return _whole(place, (), student, replaced)
    above, several = _teachers(place, heads, grounds)
    if between and len(heads) > 1:
        refuse_named(mixes)
    for link in between if reads_teacher else ():
        above += (taught(place, link, students_phases(run, link.recipe), above, several),)
        several = ()
    student = taught(place, last, phases, above, several)
    return _whole(place, above, student, replaced)


def _whole(
    place: Ground, above: tuple[Training, ...], student: Training, replaced: ReplacedModel | None
) -> Plan:
    """The plan with the student's controls, and the trainings for 8 bits."""
    compared = controls(student, above)
    plain = next((each for each in compared if each.name == PLAIN), None)
    return Plan(place, (*above, student, *compared), replaced, tuple(int8_trainings(student, plain)))


def links(run: Run) -> Iterator[Link]:
    """Teachers, assistants (Mirzadeh et al. 2020), earlier generations (Furlanello et al. 2018), student.

    Taught models of the same architecture begin with different weights, and so do several teachers of one
    architecture.
    """
    if not run.teachers:
        yield Link("teacher", run.teacher, run.recipe.teacher, run.teacher.seed or 0)
    heads = [_architecture(model) for model in run.teachers.values()]
    for place, (name, teacher) in enumerate(run.teachers.items()):
        earlier, seed = heads[:place].count(heads[place]), teacher.seed or 0
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
    for place, (name, model, recipe) in enumerate(zip(names, taught, recipes, strict=True)):
        seed = run.seed if model.seed is None else model.seed
        earlier = architectures[:place].count(architectures[place])
        yield Link(name, model, recipe, derived(seed, "generation", earlier + 1) if earlier else seed)


def _architecture(model: Model) -> tuple[Any, ...]:
    """Models of which this differs, or that stand on other data sets, may begin with the same weights."""
    own = model.dataset if isinstance(model, TeacherModel) else None
    return model.family, model.args, model.stem, model.pretrained, own


def _teachers(
    place: Ground, heads: Sequence[Link], grounds: Grounds
) -> tuple[tuple[Training, ...], tuple[AskedTeacher, ...]]:
    """The teachers; and what each knows, if there are several or one with other classes or other images than
    the data set.
    """
    teachers: list[Training] = []
    known: list[AskedTeacher] = []
    for link in heads:
        assert isinstance(link.model, TeacherModel)
        own, relation = standing(place, link.model, section(link.name), grounds, alone=len(heads) == 1)
        label = label_of("teacher", link.model.name, own.run.dataset["name"])
        teachers.append(alone(own, link, "teacher", label, teachers_phases(link.recipe)))
        known.append(AskedTeacher(link.name.removeprefix(ONE_OF_SEVERAL), relation, link.model.weight))
    same = known[0].relation.same and teachers[0].ground.data.image_shape == place.data.image_shape
    several = len(known) > 1 or not same
    return tuple(teachers), tuple(known) if several else ()
