"""Everything a run needs, built and checked before anything is trained: data, models, mixes, fingerprints,
folders.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kdrun.artefacts import RECIPE_VERSION, file_hash, fingerprint
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
from kdrun.stages.machine import Machine, machine, threads_for
from kdrun.training.plan import RowSet
from kdrun.training.seeds import derived, global_seed
from kdrun.types import CLASSIFIER, Shapes

Loss = Mapping[str, Mapping[str, Any]]

NAMED = ("logits", "embedding", CLASSIFIER)
"""What may be asked of every model, besides its stages."""


@dataclass(frozen=True)
class Training:
    """One model to be trained: what it is, what it minimises, on which rows, and where it is kept.

    role: teacher, student or control. key: all that its weights depend on. tapped: layers that its mix reads
    of it.
    mark: the file that says it is finished.
    """

    role: str
    node: Model
    recipe: Recipe
    loss: Loss
    seed: int
    rows: Tensor
    key: Mapping[str, Any]
    folder: Path
    mark: Path
    macs: float

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.key)


@dataclass(frozen=True)
class Assembly:
    """A checked run. headline: which weights are used and shown, `last` or `val_best`. reuses_classifier:
    whether the student is read by the teacher's.
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

    @property
    def uses_teacher(self) -> bool:
        """Whether the student's mix reads the teacher at all."""
        return bool(self.teacher_needs)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return image_shape(self.data)

    def row_set(self, training: Training) -> RowSet:
        """The rows of its epochs: an epoch is the same number of steps for every training of one recipe."""
        return RowSet(training.rows, len(self.data.train.labels), training.recipe.batch)

    def trainings(self) -> tuple[Training, ...]:
        """In the order in which they are trained."""
        return tuple(t for t in (self.teacher, self.student, self.control) if t is not None)


def image_shape(data: ImageSet) -> tuple[int, int, int]:
    """(C, H, W) of the images of a data set, as a model sees them."""
    return data.image_shape


def assemble(run: Run) -> Assembly:
    """Builds and checks a run; trains and writes nothing. Raises KdrunError."""
    place = machine(run.device, run.precision, run.threads)
    data = load(run.dataset, Path(run.data_dir))
    shape = image_shape(data)
    views = make_views(run.dataset["views"], shape)
    shown = headline(str(run.dataset["headline"]), data)
    built = {
        role: _build(role, node, run, data, weights_seed(run, role))
        for role, node in (("teacher", run.teacher), ("student", run.student))
    }
    mixes = {
        "teacher": _smoothed({"hard": {"name": "cross_entropy", "weight": 1.0}}, run.recipe.teacher),
        "student": _smoothed(run.loss, run.recipe.student),
        "control": _smoothed(_own_loss(run), run.recipe.student),
    }
    reuses = make_mix(mixes["student"]).reuses_classifier
    if reuses:
        built["student"] = _on_teachers_classifier(built["student"], built["teacher"], run, data)
    mix = build_mix(mixes["student"], built, data, derived(run.seed, "adapters"))
    uses_teacher = bool(mix.needs.teacher)
    facts = _Facts(run, place, data, shown, built, mixes, mix, uses_teacher)
    teacher, control = facts.training("teacher", None), facts.training("control", None)
    student = facts.training("student", teacher.key if uses_teacher else None)
    return Assembly(
        run=run,
        place=place,
        data=data,
        views=views,
        headline=shown,
        teacher=teacher,
        student=student,
        control=control if run.control else None,
        built=built,
        equation=mix.equation(),
        teacher_needs=mix.needs.teacher,
        student_needs=mix.needs.student,
        reuses_classifier=reuses,
    )


@dataclass(frozen=True)
class _Facts:
    """What the trainings of a run are made from."""

    run: Run
    place: Machine
    data: ImageSet
    headline: str
    built: Mapping[str, Built]
    losses: Mapping[str, Loss]
    mix: Mix
    uses_teacher: bool

    def training(self, role: str, teacher_key: Mapping[str, Any] | None) -> Training:
        run, model = self.run, "teacher" if role == "teacher" else "student"
        node: Model = getattr(run, model)
        recipe: Recipe = getattr(run.recipe, model)
        key = self._key(role, node, recipe, teacher_key)
        mark = fingerprint(key)
        root = Path(run.outputs_dir)
        if role == "student":
            label = "-".join((run.dataset["name"], run.teacher.name, run.student.name, run.method or "own"))
            folder = root / "runs" / f"{_safe(label)}-{mark}"
        else:
            folder = root / "models" / f"{_safe('-'.join((role, node.name, run.dataset['name'])))}-{mark}"
        return Training(
            role=role,
            node=node,
            recipe=recipe,
            loss=self.losses[role],
            seed=_seed(run, role),
            rows=self._rows(role),
            key=key,
            folder=folder,
            mark=folder / ("student.json" if role == "student" else "model.json"),
            macs=self._step_macs(role, model, recipe.batch),
        )

    def _key(
        self, role: str, node: Model, recipe: Recipe, teacher_key: Mapping[str, Any] | None
    ) -> dict[str, Any]:
        run = self.run
        if role == "teacher" and is_loaded(node, self.built["teacher"]):
            return {
                "recipe_version": RECIPE_VERSION,
                "model": model_key(node),
                "classes": list(self.data.classes),
                "resize": run.dataset["resize"],
            }
        key = {
            "recipe_version": RECIPE_VERSION,
            "data": self.data.fingerprint,
            "views": dict(run.dataset["views"]),
            "normalised": [self.data.mean, self.data.std, self.data.white],
            "resize": run.dataset["resize"],
            "model": model_key(node),
            "recipe": {name: value for name, value in vars(recipe).items() if name != "name"},
            "loss": {name: dict(term) for name, term in self.losses[role].items()},
            "seed": _seed(run, role),
            "precision": self.place.precision,
        }
        if role == "student":
            key["transfer"] = run.transfer
        if teacher_key is not None:
            key["teacher"] = {"key": fingerprint(teacher_key), "weights": self.headline}
        return key

    def _rows(self, role: str) -> Tensor:
        labels = self.data.train.labels
        everything = role == "student" and self.mix.uses_unlabelled and self.run.transfer == "all"
        return torch.arange(len(labels)) if everything else torch.nonzero(labels >= 0).flatten()

    def _step_macs(self, role: str, model: str, batch: int) -> float:
        shape = image_shape(self.data)
        forward = macs(self.built[model].model, shape)
        asked = role == "student" and self.uses_teacher
        return batch * (3.0 * forward + (macs(self.built["teacher"].model, shape) if asked else 0.0))


def model_key(node: Model) -> dict[str, Any]:
    """What of a model's description decides its weights; a checkpoint counts by its content."""
    key: dict[str, Any] = {
        "name": node.name,
        "family": node.family,
        "args": dict(node.args),
        "stem": node.stem,
    }
    key["pretrained"] = node.pretrained
    if node.checkpoint:
        path = Path(node.checkpoint).expanduser()
        if not path.is_file():
            raise KdrunError("checkpoint", node.checkpoint, "no such file")
        key["checkpoint"] = file_hash(path)
    return key


def is_loaded(node: Model, built: Built) -> bool:
    """Whether a teacher is taken as it is, from a checkpoint or pretrained with the head that it needs, and
    not trained.
    """
    return bool(node.checkpoint) or (node.pretrained and not built.head_is_new)


def build_mix(loss: Loss, built: Mapping[str, Built], data: ImageSet, seed: int) -> Mix:
    """The mix, with adapters made from the models' shapes under a seed of their own."""
    mix, shape = make_mix(loss), image_shape(data)
    for role in ("student", "teacher"):
        _check_paths(mix, role, built[role].model)
    with global_seed(seed, "adapters"):
        mix.build(
            _shapes(built["student"], shape, mix.needs.student),
            _shapes(built["teacher"], shape, mix.needs.teacher),
            images=len(data.train.labels),
        )
    return mix


def threads_of(training: Training, place: Machine) -> int:
    """How many threads a training uses: as asked, or by its work."""
    return place.threads or threads_for(training.macs)


def weights_seed(run: Run, role: str) -> int:
    """The seed of a model's initial weights; the student's and the control's are one."""
    return derived(_seed(run, role), "weights")


def _check_paths(mix: Mix, role: str, model: nn.Module) -> None:
    for term in mix.terms:
        for name in _paths(getattr(term.loss.needs, role)):
            if name not in (names := layer_names(model)):
                raise KdrunError(f"loss.{term.name}", name, f"the {role} has no such layer", names)


def _paths(needs: frozenset[str]) -> list[str]:
    """Those of the layers that are module paths; the others every model has."""
    return sorted(name for name in needs if name not in NAMED and not name.startswith("stage"))


def _shapes(built: Built, shape: tuple[int, int, int], needs: frozenset[str]) -> Shapes:
    return probe(built.model, shape, _paths(needs))


def _build(role: str, node: Model, run: Run, data: ImageSet, seed: int) -> Built:
    description = {
        "name": node.name,
        "family": node.family,
        "args": node.args,
        "stem": node.stem,
        "pretrained": node.pretrained,
        "role": role,
        "normalisation": (data.mean, data.std),
    }
    return build(description, len(data.classes), image_shape(data), run.dataset["resize"], seed)


def rebuild(assembly: Assembly, role: str) -> Built:
    """The model of a role with its initial weights, anew."""
    run, data, model = assembly.run, assembly.data, "teacher" if role == "teacher" else "student"
    built = _build(model, getattr(run, model), run, data, weights_seed(run, role))
    if role == "student" and assembly.reuses_classifier:
        return _on_teachers_classifier(built, assembly.built["teacher"], run, data)
    return built


def _on_teachers_classifier(student: Built, teacher: Built, run: Run, data: ImageSet) -> Built:
    """The student with a projector and the teacher's classifier, which is given its weights when they are
    trained.
    """
    seed = derived(weights_seed(run, "student"), "projector")
    return reusing(student, teacher.model, image_shape(data), len(data.classes), seed)


def _own_loss(run: Run) -> Loss:
    """What a control minimises: cross-entropy, with the arguments of the student's own where it has one."""
    own = next((t for t in run.loss.values() if t.get("name") == "cross_entropy"), {"name": "cross_entropy"})
    return {"hard": dict(own) | {"weight": 1.0}}


def _smoothed(loss: Loss, recipe: Recipe) -> Loss:
    """The recipe's label smoothing in every cross-entropy that does not have its own."""
    found = {name: dict(term) for name, term in loss.items()}
    for term in found.values():
        if term.get("name") == "cross_entropy" and not term.get("label_smoothing"):
            term["label_smoothing"] = recipe.label_smoothing
    return found


def _seed(run: Run, role: str) -> int:
    own = run.teacher.seed if role == "teacher" else run.student.seed
    return own if own is not None else (0 if role == "teacher" else run.seed)


def _safe(label: str) -> str:
    return label.replace("/", "_").replace(" ", "_")
