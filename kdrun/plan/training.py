"""The trainings of a run: what each is, what it minimises, what its weights depend on, where it is kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from kdrun.artefacts import RECIPE_VERSION, fingerprint
from kdrun.config.schema import Model, Recipe, Run
from kdrun.data.images import ImageSet
from kdrun.data.views import Views
from kdrun.evaluation.cost import macs
from kdrun.losses.mix import Mix
from kdrun.machine import Machine, threads_for
from kdrun.models.build import Built
from kdrun.plan.objective import Link, Loss, controls_loss, epochs_of, model_key, recipe_key, teachers_loss
from kdrun.plan.phases import Phase, only
from kdrun.training.tabled import no_table


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


class Ground(NamedTuple):
    """What all pairs of a run stand on."""

    run: Run
    place: Machine
    data: ImageSet
    views: Views
    headline: str


class Facts(NamedTuple):
    """What the trainings of a pair are made from. chain: up to the student of the pair. phases, mixes: the
    student's.
    """

    ground: Ground
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
        shape = self.ground.data.image_shape
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


def threads_of(training: Training, place: Machine) -> int:
    """How many threads a training uses: as asked, or by its work."""
    return place.threads or threads_for(training.macs)


def _plain(loss: Loss) -> dict[str, dict[str, Any]]:
    return {name: dict(term) for name, term in loss.items()}


def _safe(label: str) -> str:
    return label.replace("/", "_").replace(" ", "_")
