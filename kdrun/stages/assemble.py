"""Everything a run needs, built and checked before anything is trained: data, models, mixes, fingerprints,
folders.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from kdrun.artefacts import RECIPE_VERSION, fingerprint
from kdrun.config.schema import Model, Recipe, Run
from kdrun.data.images import ImageSet
from kdrun.data.load import headline, load
from kdrun.data.views import Views, make_views
from kdrun.errors import KdrunError
from kdrun.evaluation.cost import macs
from kdrun.losses.mix import Mix, make_mix
from kdrun.models.build import Built, build
from kdrun.models.reused import reusing
from kdrun.models.taps import layer_names, probe
from kdrun.stages.alternatives import naming_alternatives
from kdrun.stages.images import reading
from kdrun.stages.links import (
    Link,
    Loss,
    controls_loss,
    epochs_of,
    links,
    model_key,
    peer,
    recipe_key,
    teachers_loss,
)
from kdrun.stages.machine import Machine, machine, threads_for
from kdrun.stages.phases import Phase, equation, only, refuse_mutual, refuse_one_momentum, students_phases
from kdrun.training.plan import RowSet
from kdrun.training.seeds import derived, global_seed
from kdrun.training.tabled import no_table
from kdrun.types import CLASSIFIER, POOLED, Shapes

NAMED = ("logits", "embedding", POOLED, CLASSIFIER)
"""What may be asked of every model, besides its stages."""


@dataclass(frozen=True)
class Training:
    """One model to be trained: what it is, what it minimises, on which rows, and where it is kept.

    role: teacher, student or control; peer, if it is trained along with the student. phases: what is
    minimised, one after the other. key: all that its weights depend on. mark: the file that says it is
    finished. momentum_delta: of two momenta, None where there is one. loaded: whether it is taken as it is,
    from a checkpoint or pretrained, and not trained.
    """

    role: str
    node: Model
    recipe: Recipe
    phases: tuple[Phase, ...]
    seed: int
    rows: Tensor
    key: Mapping[str, Any]
    folder: Path
    mark: Path
    macs: float
    momentum_delta: float | None = None
    loaded: bool = False

    @property
    def loss(self) -> Loss:
        """What is minimised last, and mostly throughout."""
        return self.phases[-1].loss

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.key)

    @property
    def epochs(self) -> int:
        """How many are trained: those of the recipe, or fewer where it is stopped early."""
        return epochs_of(self.recipe)


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
        return image_shape(self.data)

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


def image_shape(data: ImageSet) -> tuple[int, int, int]:
    """(C, H, W) of the images of a data set, as a model sees them."""
    return data.image_shape


def assemble(run: Run) -> Assembly:
    """Builds and checks a run; trains and writes nothing. Raises KdrunError."""
    mixes = [make_mix(phase.loss, phase.key) for phase in students_phases(run, run.recipe.student)]
    refuse_mutual(run, mixes)
    refuse_one_momentum(run)
    place = machine(run.device, run.precision, run.threads)
    data = load(run.dataset, Path(run.data_dir), reading(run.runtime, place.device))
    views = make_views(run.dataset["views"], image_shape(data))
    ground = _Ground(run, place, data, views, headline(str(run.dataset["headline"]), data))
    chain = list(links(run))
    if not any(mix.needs.teacher for mix in mixes):
        chain = [chain[0], chain[-1]]  # who asks nobody needs nobody in between
    pair = _pair(ground, chain[:2], None)
    for count in range(3, len(chain) + 1):
        pair = _pair(ground, chain[:count], pair)
    return pair


class _Ground(NamedTuple):
    """What all pairs of a run stand on."""

    run: Run
    place: Machine
    data: ImageSet
    views: Views
    headline: str


def _pair(ground: _Ground, chain: Sequence[Link], below: Assembly | None) -> Assembly:
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
        built["student"] = _on_teachers_classifier(built["student"], teacher, data, link.seed)
    mixes = [build_mix(phase, built, data, derived(link.seed, "adapters")) for phase in phases]
    facts = _Facts(ground, chain, built, phases, mixes)
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


class _Facts(NamedTuple):
    """What the trainings of a pair are made from. chain: up to the student of the pair. phases, mixes: the
    student's.
    """

    ground: _Ground
    chain: Sequence[Link]
    built: Mapping[str, Built]
    phases: tuple[Phase, ...]
    mixes: Sequence[Mix]

    @property
    def mutual(self) -> bool:
        return any(mix.mutual for mix in self.mixes)

    @property
    def asks(self) -> bool:
        return any(mix.needs.teacher for mix in self.mixes)

    def teacher(self) -> Training:
        link = self.chain[0]
        if self.mutual:
            own: dict[str, Any] = {"model": model_key(link.node), "seed": link.seed}
            return self._training("peer", link, self.phases, own | {"recipe": recipe_key(link.recipe)})
        loss = teachers_loss(self.ground.run)
        if is_loaded(link.node, self.built["teacher"]):
            key: dict[str, Any] = {
                "recipe_version": RECIPE_VERSION,
                "model": model_key(link.node),
                "classes": list(self.ground.data.classes),
                "resize": self.ground.run.dataset["resize"],
            }
            return replace(self._training("teacher", link, only(loss, link.recipe), key), loaded=True)
        return self._training("teacher", link, only(loss, link.recipe), self._key(link, loss))

    def student(self, told_by: Training) -> Training:
        run, link, (*earlier, last) = self.ground.run, self.chain[-1], self.phases
        key = self._key(link, last.loss) | {"transfer": run.transfer}
        for phase in earlier:
            key["phase_one"] = {"epochs": phase.until, "loss": _plain(phase.loss)}
        if run.momentum_delta is not None:
            key["momentum_delta"] = run.momentum_delta
        if self.mutual:
            key["peer"] = dict(told_by.key)
        elif self.asks:
            key["teacher"] = {"key": told_by.fingerprint, "weights": self.ground.headline} | self._rounding()
        return self._training("student", link, self.phases, key)

    def _rounding(self) -> dict[str, Any]:
        """How the answers of a table are rounded, where there is one and it is not exact."""
        runtime, views = self.ground.run.runtime, self.ground.views.count
        asking = [mix.needs.teacher for mix in self.mixes if mix.needs.teacher]
        kept = runtime.table != "off" and not all(no_table(needs, views) for needs in asking)
        return {"answers": runtime.table_dtype} if kept and runtime.table_dtype != "fp32" else {}

    def control(self) -> Training:
        link = self.chain[-1]
        loss = controls_loss(self.ground.run)
        return self._training("control", link, only(loss, link.recipe), self._key(link, loss))

    def _training(self, role: str, link: Link, phases: tuple[Phase, ...], key: Mapping[str, Any]) -> Training:
        folder = self._folder(role, link.node, fingerprint(key))
        return Training(
            role=role,
            node=link.node,
            recipe=link.recipe,
            phases=phases,
            seed=link.seed,
            rows=self._rows(role),
            key=key,
            folder=folder,
            mark=folder / ("student.json" if role == "student" else "model.json"),
            macs=self._step_macs(role, link.recipe.batch),
            momentum_delta=self.ground.run.momentum_delta if role == "student" else None,
        )

    def _folder(self, role: str, node: Model, mark: str) -> Path:
        run = self.ground.run
        root, dataset = Path(run.outputs_dir), run.dataset["name"]
        if role != "student":
            return root / "models" / f"{_safe('-'.join((role, node.name, dataset)))}-{mark}"
        teacher, *taught = (link.node.name for link in self.chain)
        repeated = ((name, len(list(group))) for name, group in groupby(taught))
        names = [name if count == 1 else f"{count}x{name}" for name, count in repeated]
        return root / "runs" / f"{_safe('-'.join((dataset, teacher, *names, run.method or 'own')))}-{mark}"

    def _key(self, link: Link, loss: Loss) -> dict[str, Any]:
        run, data = self.ground.run, self.ground.data
        return {
            "recipe_version": RECIPE_VERSION,
            "data": data.fingerprint,
            "views": dict(run.dataset["views"]),
            "normalised": [data.mean, data.std, data.white],
            "resize": run.dataset["resize"],
            "model": model_key(link.node),
            "recipe": recipe_key(link.recipe),
            "loss": _plain(loss),
            "seed": link.seed,
            "precision": self.ground.place.precision,
        }

    def _rows(self, role: str) -> Tensor:
        """Of all phases."""
        data, run = self.ground.data, self.ground.run
        if role in ("student", "peer"):
            return max((rows_for(mix, data, run) for mix in self.mixes), key=len)
        return torch.nonzero(data.train.labels >= 0).flatten()

    def _step_macs(self, role: str, batch: int) -> float:
        shape = image_shape(self.ground.data)
        shared = 3.0 if self.mutual else float(self.asks and role == "student")
        teachers = {"teacher": 3.0, "control": 0.0}.get(role, shared)
        counts = {"teacher": teachers, "student": 0.0 if role == "teacher" else 3.0}
        return batch * sum(n * macs(self.built[who].model, shape) for who, n in counts.items() if n)


def rows_for(mix: Mix, data: ImageSet, run: Run) -> Tensor:
    """Which training images a mix is minimised on: all, if it has a use for those without a label."""
    labels = data.train.labels
    everything = mix.uses_unlabelled and run.transfer == "all"
    return torch.arange(len(labels)) if everything else torch.nonzero(labels >= 0).flatten()


def is_loaded(node: Model, built: Built) -> bool:
    """Whether a teacher is taken as it is, from a checkpoint or pretrained with the head that it needs, and
    not trained.
    """
    return bool(node.checkpoint) or (node.pretrained and not built.head_is_new)


def build_mix(phase: Phase, built: Mapping[str, Built], data: ImageSet, seed: int) -> Mix:
    """The mix of a phase, with adapters made from the models' shapes under a seed of their own."""
    mix, shape = make_mix(phase.loss, phase.key), image_shape(data)
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


def threads_of(training: Training, place: Machine) -> int:
    """How many threads a training uses: as asked, or by its work."""
    return place.threads or threads_for(training.macs)


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
    return build(description, len(data.classes), image_shape(data), run.dataset["resize"], seed)


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
    return reusing(student, teacher.model, image_shape(data), len(data.classes), own)


def _plain(loss: Loss) -> dict[str, dict[str, Any]]:
    return {name: dict(term) for name, term in loss.items()}


def _safe(label: str) -> str:
    return label.replace("/", "_").replace(" ", "_")
