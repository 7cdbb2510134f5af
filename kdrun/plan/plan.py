"""Everything a run needs, built and checked before anything is trained: data, models, mixes, fingerprints,
folders.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from kdrun.config.schema import Run
from kdrun.data.batches import reading
from kdrun.data.images import ImageSet
from kdrun.data.load import headline, load
from kdrun.data.views import Views, make_views
from kdrun.errors import KdrunError
from kdrun.losses.mix import Mix, make_mix
from kdrun.machine import Machine, machine
from kdrun.models.build import Built, build
from kdrun.models.reused import reusing
from kdrun.models.taps import layer_names, probe
from kdrun.plan.objective import (
    Link,
    links,
    peer,
)
from kdrun.plan.phases import (
    Phase,
    equation,
    refuse_mutual,
    refuse_one_momentum,
    refuse_unprepared,
    students_phases,
)
from kdrun.plan.suggest import naming_alternatives
from kdrun.plan.training import Facts, Ground, Training, rows_for
from kdrun.training.plan import RowSet
from kdrun.training.seeds import derived, global_seed
from kdrun.types import CLASSIFIER, POOLED, Shapes

NAMED = ("logits", "embedding", POOLED, CLASSIFIER)
"""What may be asked of every model, besides its stages."""


@dataclass(frozen=True)
class Assembly:
    """A checked run: a teacher, the student that learns from it, and the control. headline: which weights are
    used and shown, `last` or `val_best`. equation, teacher_needs, student_needs: of all phases.
    reuses_classifier: whether the student is read by the teacher's.

    A chain is a pair of teacher and student for each step: the teacher of one is the student of the pair
    `below`, under the `name` that it has there. The last is the run's.
    """

    run: Run
    place: Machine
    data: ImageSet
    views: Views
    headline: str
    teacher: Training
    student: Training
    control: Training | None
    built: Mapping[str, Built]
    equation: str
    teacher_needs: frozenset[str]
    student_needs: frozenset[str]
    reuses_classifier: bool = False
    name: str = "student"
    below: Assembly | None = None

    @property
    def uses_teacher(self) -> bool:
        """Whether the student's mix reads the teacher at all."""
        return bool(self.teacher_needs)

    @property
    def mutual(self) -> bool:
        """Whether the teacher is a peer that is trained along with the student, and learns from it."""
        return self.teacher.role == "peer"

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return self.data.image_shape

    @property
    def chain(self) -> tuple[Assembly, ...]:
        """The pairs in the order in which their students are trained; the last is this one."""
        return (*(self.below.chain if self.below else ()), self)

    def row_set(self, training: Training, mix: Mix | None = None) -> RowSet:
        """The rows of its epochs, or of a phase's that has this mix: an epoch is the same number of steps for
        every training of one recipe.
        """
        rows = training.rows if mix is None else rows_for(mix, self.data, self.run)
        return RowSet(rows, len(self.data.train.labels), training.recipe.batch)

    def trainings(self) -> tuple[Training, ...]:
        """In the order in which they are trained, each with a name of its own as its role: teacher (a peer is
        part of the student's training), those in between, student, control.
        """
        taught = (replace(pair.student, role=pair.name) for pair in self.chain)
        alone = () if self.mutual else (self.chain[0].teacher,)
        return (*alone, *taught, *((self.control,) if self.control else ()))


def assemble(run: Run) -> Assembly:
    """Builds and checks a run; trains and writes nothing. Raises KdrunError."""
    mixes = [make_mix(phase.loss, phase.key) for phase in students_phases(run, run.recipe.student)]
    refuse_unprepared(mixes)
    refuse_mutual(run, mixes)
    refuse_one_momentum(run)
    place = machine(run.device, run.precision, run.threads)
    data = load(run.dataset, Path(run.data_dir), reading(run.runtime, place.device))
    views = make_views(run.dataset["views"], data.image_shape)
    ground = Ground(run, place, data, views, headline(str(run.dataset["headline"]), data))
    chain = list(links(run))
    if not any(mix.needs.teacher for mix in mixes):
        chain = [chain[0], chain[-1]]  # who asks nobody needs nobody in between
    pair = _pair(ground, chain[:2], None)
    for count in range(3, len(chain) + 1):
        pair = _pair(ground, chain[:count], pair)
    return pair


def _pair(ground: Ground, chain: Sequence[Link], below: Assembly | None) -> Assembly:
    """The last of a chain and its teacher, who is the student of the pair below, if there is one."""
    run, data, link = ground.run, ground.data, chain[-1]
    phases = students_phases(run, link.recipe)
    planned = [make_mix(phase.loss, phase.key) for phase in phases]
    if any(mix.mutual for mix in planned):
        chain = [peer(run, link), link]
    teacher = below.built["student"] if below else _build(run, data, chain[0])
    built = {"teacher": teacher, "student": _build(run, data, link)}
    reuses = any(mix.reuses_classifier for mix in planned)
    if reuses:
        with naming_alternatives(planned[-1], built, data.image_shape):
            built["student"] = _on_teachers_classifier(built["student"], teacher, data, link.seed)
    mixes = [build_mix(phase, built, data, derived(link.seed, "adapters")) for phase in phases]
    facts = Facts(ground, chain, built, phases, mixes)
    if facts.mutual:
        build_mix(phases[0], exchanged(built), data, chain[0].seed)
    told_by = replace(below.student, role=below.name) if below else facts.teacher()
    return Assembly(
        run=run,
        place=ground.place,
        data=data,
        views=ground.views,
        headline=ground.headline,
        teacher=told_by,
        student=facts.student(told_by),
        control=facts.control() if run.control and link.name == "student" else None,
        built=built,
        equation=equation(phases, mixes),
        teacher_needs=frozenset().union(*(mix.needs.teacher for mix in mixes)),
        student_needs=frozenset().union(*(mix.needs.student for mix in mixes)),
        reuses_classifier=reuses,
        name=link.name,
        below=below,
    )


def build_mix(phase: Phase, built: Mapping[str, Built], data: ImageSet, seed: int) -> Mix:
    """The mix of a phase, with adapters made from the models' shapes under a seed of their own."""
    mix, shape = make_mix(phase.loss, phase.key), data.image_shape
    for role in ("student", "teacher"):
        _check_paths(mix, role, built[role].model)
    with global_seed(seed, "adapters"), naming_alternatives(mix, built, shape):
        mix.build(
            _shapes(built["student"], shape, mix.needs.student),
            _shapes(built["teacher"], shape, mix.needs.teacher),
            images=len(data.train.labels),
        )
    return mix


def exchanged(built: Mapping[str, Built]) -> dict[str, Built]:
    """The two models as a peer sees them: it is the student, and the student its teacher."""
    return {"student": built["teacher"], "teacher": built["student"]}


def _check_paths(mix: Mix, role: str, model: nn.Module) -> None:
    for term in mix.terms:
        for name in _paths(getattr(term.loss.needs, role)):
            if name not in (names := layer_names(model)):
                raise KdrunError(f"{mix.key}.{term.name}", name, f"the {role} has no such layer", names)


def _paths(needs: frozenset[str]) -> list[str]:
    """Those of the layers that are module paths; the others every model has."""
    return sorted(name for name in needs if name not in NAMED and not name.startswith("stage"))


def _shapes(built: Built, shape: tuple[int, int, int], needs: frozenset[str]) -> Shapes:
    return probe(built.model, shape, [*_paths(needs), *(needs & {POOLED})])


def _build(run: Run, data: ImageSet, link: Link) -> Built:
    node = link.node
    description = {
        "name": node.name,
        "family": node.family,
        "args": node.args,
        "stem": node.stem,
        "pretrained": node.pretrained,
        "role": link.key,
        "normalisation": (data.mean, data.std),
    }
    seed = derived(link.seed, "weights")
    return build(description, len(data.classes), data.image_shape, run.dataset["resize"], seed)


def rebuild(assembly: Assembly, role: str) -> Built:
    """The model of a role, of this pair or of one below, with its initial weights, anew."""
    own = role in (assembly.name, "student", "control")
    if assembly.below is not None and not own:
        return rebuild(assembly.below, role)
    training = assembly.student if own else assembly.teacher
    link = Link(role if own else "teacher", training.node, training.recipe, training.seed)
    built = _build(assembly.run, assembly.data, link)
    if own and role != "control" and assembly.reuses_classifier:
        return _on_teachers_classifier(built, assembly.built["teacher"], assembly.data, link.seed)
    return built


def _on_teachers_classifier(student: Built, teacher: Built, data: ImageSet, seed: int) -> Built:
    """The student with a projector and the teacher's classifier, which is given its weights when they are
    trained.
    """
    own = derived(derived(seed, "weights"), "projector")
    return reusing(student, teacher.model, data.image_shape, len(data.classes), own)
