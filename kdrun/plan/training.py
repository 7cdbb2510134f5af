"""One model to be trained: its teachers, losses, rows and folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from kdrun.artefacts import RECIPE_VERSION, fingerprint
from kdrun.config.choices import is_control
from kdrun.config.schema import Model, Recipe, is_headless
from kdrun.data.images import Part, Pool
from kdrun.losses.mix import Mix
from kdrun.machine import threads_for
from kdrun.models.build import Built
from kdrun.models.quantised import quantised
from kdrun.plan.build import ReadModel, build_mix
from kdrun.plan.ground import Ground, sight
from kdrun.plan.key import head_key, loss_key, model_key, recipe_key
from kdrun.plan.objective import Phase, Terms, epochs_of, transfer_of
from kdrun.plan.several import Several
from kdrun.sources import sources
from kdrun.training.plan import RowSet, Shares
from kdrun.training.ranks import normalises_parts
from kdrun.training.tabled import why_no_table

INT8_VERSION = 1
"""Of the fake quantisation: in the keys of trainings for 8 bits alone."""

ONE_OF_SEVERAL = "teacher_"
"""The start of the name of a training that makes one of several teachers."""


class ForInt8(NamedTuple):
    """Of a model that is trained for 8 bits. began: the training whose weights it begins with. bits: of
    weights.
    """

    began: Training
    bits: int


@dataclass(frozen=True, eq=False)
class Training:
    """A model and all that its weights depend on.

    name: unique in the run: teacher, assistant1, generation2, student, control. kind: teacher, student (also
    for assistants, generations and the control `self`), control, or peer. label: the folder's name before the
    fingerprint. built, mixes: the model and the mix of each phase, for shapes and needs; `initial` and
    `new_mix` give those that are trained. teachers: the models that its terms read; empty if no term reads a
    teacher. several: how they answer, if there are several, or one with other classes than the student's.
    peer: a model that is trained in the same steps and kept in the same folder. for_int8: if it computes with
    fake quantisation; `built` does so, too.
    """

    ground: Ground
    name: str
    kind: str
    label: str
    model: Model
    recipe: Recipe
    seed: int
    phases: tuple[Phase, ...]
    built: Built
    mixes: tuple[Mix, ...] = ()
    teachers: tuple[Training, ...] = ()
    several: Several | None = None
    peer: Training | None = None
    momentum_delta: float | None = None
    for_int8: ForInt8 | None = None

    @property
    def after(self) -> tuple[Training, ...]:
        """The trainings that must be finished before this one begins."""
        return self.teachers if self.for_int8 is None else (*self.teachers, self.for_int8.began)

    @property
    def is_control(self) -> bool:
        """Whether the student is compared with it; `self` is of the kind of a student, since it is taught."""
        return is_control(self.name)

    @property
    def section(self) -> str:
        """The key of the configuration that describes the model."""
        return section(self.name)

    @property
    def teacher(self) -> Training | None:
        """The model that its terms read: a peer, or its only or first teacher."""
        return self.peer or next(iter(self.teachers), None)

    @property
    def epochs(self) -> int:
        """Epochs that are trained: those of the recipe, or fewer if it stops early."""
        return epochs_of(self.recipe)

    @property
    def loss(self) -> Terms:
        """The loss of the last phase."""
        return self.phases[-1].loss

    @property
    def teacher_needs(self) -> frozenset[str]:
        """The layers of its teacher that all phases read."""
        return frozenset().union(*(mix.needs.teacher for mix in self.mixes))

    @property
    def normalises_parts(self) -> bool:
        """Whether several processes share a batch and a batch norm sees a part of it. With other parts it is
        another training, as with another batch. All else that changes with the parts is rounding.
        """
        if self.ground.machine.ranks.count == 1 or self.ground.run.runtime.sync_bn:
            return False
        pairs = [(each.built.model, mix) for each in (self, self.peer) if each for mix in each.mixes]
        return any(normalises_parts(model, mix.losses) for model, mix in pairs)

    @property
    def headless(self) -> bool:
        """Whether it is a teacher without classes, of which only layers are read."""
        return is_headless(self.model)

    @cached_property
    def loaded(self) -> bool:
        """Whether the model is not trained, but loaded from a checkpoint or pretrained weights.

        A pretrained teacher with a new head is trained (fine-tuned). A student with a checkpoint is trained
        from it.
        """
        if self.kind == "teacher":
            return bool(self.model.checkpoint) or (self.model.pretrained and not self.built.head_is_new)
        trained = "student" in self.ground.run.stages
        own = self.kind == "student" and not self.is_control and self.for_int8 is None
        return own and bool(self.model.checkpoint) and not trained

    @cached_property
    def rows(self) -> Tensor:
        """(R,) int64, the training images that it sees in all phases."""
        if self.kind in ("student", "peer"):
            every: Tensor = torch.unique(torch.cat([self.rows_for(mix) for mix in self.mixes]))
            return every
        return self._transferred(torch.nonzero(self.ground.data.train.labels >= 0).flatten())

    def rows_for(self, mix: Mix) -> Tensor:
        """The training images of a phase, by its transfer set, if its mix can use images without a label."""
        labels, (_, transfer) = self.labels, transfer_of(self.ground.run, mix)
        if not mix.uses_unlabelled or transfer == "labelled":
            return self._transferred(torch.nonzero(labels >= 0).flatten())
        every = torch.arange(len(labels)) if transfer == "all" else torch.nonzero(labels < 0).flatten()
        return self._transferred(every)

    def _transferred(self, rows: Tensor) -> Tensor:
        """The rows whose classes are in the transfer set; for a teacher all rows."""
        if self.kind == "teacher" or not self.ground.transfer.missing:
            return rows
        return rows[self.ground.transfer.stays[rows]]

    @property
    def part(self) -> Part:
        """The images that its rows index: the training part, and for a student the pool after it."""
        data = self.ground.data
        return data.taught if self.kind in ("student", "peer") else data.train

    @cached_property
    def labels(self) -> Tensor:
        """(N,) int64, the labels of its part; -1 for a label that it must not know."""
        data = self.ground.data
        return data.taught_labels if self.kind in ("student", "peer") else data.train.labels

    @property
    def pool(self) -> Pool | None:
        """The images without labels beside the training part, if it learns from them."""
        beyond = len(self.rows) and int(self.rows.max()) >= len(self.ground.data.train.labels)
        return self.ground.data.pool if beyond else None

    def row_set(self, mix: Mix | None = None, mined: Tensor | None = None) -> RowSet:
        """The rows of its epochs, or of those of one phase.

        mined: (M,) int64, the images of the pool that the teacher chose; None: all.

        All trainings with the same recipe have the same number of steps in an epoch.
        """
        rows, own = self.rows if mix is None else self.rows_for(mix), len(self.ground.data.train.labels)
        if mined is not None:
            rows = torch.cat([rows[rows < own], (own + mined)[torch.isin(own + mined, rows)]])
        return RowSet(rows, own, self.recipe.batch, self._shares(rows))

    def _shares(self, rows: Tensor) -> Shares | None:
        """The shares of labelled and unlabelled rows in a batch; None if they are not fixed."""
        share, labels = self.ground.run.recipe.labelled_share, self.labels[rows]
        if share is None or self.kind not in ("student", "peer") or len(torch.unique(labels >= 0)) < 2:
            return None
        return Shares(rows[labels >= 0], rows[labels < 0], share)

    @cached_property
    def key(self) -> Mapping[str, Any]:
        """All that its weights depend on, as plain values."""
        own = self._own_key()
        return own | ({"sources": used} if (used := self._sources()) else {})

    def _own_key(self) -> dict[str, Any]:
        if self.kind == "peer":
            return {
                "model": model_key(self.model),
                "seed": self.seed,
                "recipe": recipe_key(self.recipe),
            }
        if self.kind == "teacher" and self.loaded:
            return {
                "recipe_version": RECIPE_VERSION,
                "model": model_key(self.model),
                "classes": [] if self.headless else list(self.ground.data.classes),
                "resize": self.ground.run.dataset["resize"],
            }
        taught = self._taught_key() if self.kind == "student" else {}
        return self._trained_key() | taught | self._int8_key()

    def _int8_key(self) -> dict[str, Any]:
        if self.for_int8 is None:
            return {}
        began = {"key": self.for_int8.began.fingerprint, "weights": self.ground.headline}
        return {"int8": {"began": began, "bits": self.for_int8.bits, "version": INT8_VERSION}}

    def _trained_key(self) -> dict[str, Any]:
        run, data = self.ground.run, self.ground.data
        missing = self.ground.transfer.missing if self.kind != "teacher" else ()
        return {
            "recipe_version": RECIPE_VERSION,
            "data": data.fingerprint,
            "views": dict(run.dataset["views"]),
            "normalised": [data.mean, data.std, data.white],
            "resize": run.dataset["resize"],
            "model": model_key(self.model),
            "recipe": recipe_key(self.recipe),
            "loss": loss_key(self.loss),
            "seed": self.seed,
            "precision": self.ground.machine.precision,
            **({"transfer_without": [data.classes[number] for number in missing]} if missing else {}),
            **({"batch_norm_ranks": self.ground.machine.ranks.count} if self.normalises_parts else {}),
        } | head_key(self.ground.machine)

    def _taught_key(self) -> dict[str, Any]:
        """The further part of a student's key. A setting that is not used is in no key."""
        run = self.ground.run
        key: dict[str, Any] = {"transfer": run.transfer}
        if self._shares(self.rows):
            key["labelled_share"] = self.ground.run.recipe.labelled_share
        if self.pool is not None:
            dataset = run.dataset
            mined = {name: dataset.get(f"unlabelled_{name}") for name in ("confidence", "top_k")}
            chosen = {name: value for name, value in mined.items() if value is not None}
            key["unlabelled"] = {"images": self.pool.fingerprint, **chosen}
        for phase in self.phases[:-1]:
            own = {} if phase.lr is None else {"lr": phase.lr}
            key["phase_one"] = {"epochs": phase.until, "loss": loss_key(phase.loss)} | own
            if run.phase_one.transfer not in (None, run.transfer):
                key["phase_one"]["transfer"] = run.phase_one.transfer
        if self.momentum_delta is not None:
            key["momentum_delta"] = self.momentum_delta
        if self.peer is not None:
            key["peer"] = dict(self.peer.key)
        if self.several is not None:
            return key | self._several_key(self.several)
        for teacher in self.teachers:
            key["teacher"] = self._teachers_key(teacher) | self._rounding()
        return key

    def _teachers_key(self, teacher: Training) -> dict[str, Any]:
        """Its weights, and its preprocessing if that differs from the student's."""
        given = sight(teacher.ground.data)
        seen = {} if given == sight(self.ground.data) else {"sight": list(given)}
        return {"key": teacher.fingerprint, "weights": teacher.ground.headline} | seen

    def _several_key(self, several: Several) -> dict[str, Any]:
        """The teachers in order. A teacher's name counts if a term reads it alone, its classes if they differ
        from the data set's, its weight and the combination if a term reads all teachers as one.
        """
        named = {term.teacher for mix in self.mixes for term in mix.terms}
        teachers = []
        for teacher, asked in zip(self.teachers, several.asked, strict=True):
            own = self._teachers_key(teacher)
            own |= {"name": asked.name} if asked.name in named else {}
            own |= {} if asked.relation.same else {"classes": list(asked.relation.targets)}
            own |= {} if several.how is None or asked.share == 1.0 else {"share": asked.share}
            teachers.append(own | self._rounding(asked.name))
        combined = {} if several.how is None else {"combine": several.how._asdict()}
        return {"teachers": teachers, **combined}

    def _sources(self) -> dict[str, str]:
        """The user's files for its data set, model, recipe and losses: path to digest."""
        run = self.ground.run
        losses = [] if self.kind == "teacher" and self.loaded else [phase.loss for phase in self.phases]
        parts = [run.dataset, self.model.family, dict(self.model.args), vars(self.recipe), losses]
        return sources(parts, run.packages)

    def _rounding(self, name: str = "") -> dict[str, Any]:
        """The number format of a table that rounds a teacher's answers. name: of one of several teachers."""
        runtime, views = self.ground.run.runtime, self.ground.views.count
        phases = [needs for mix in self.mixes if (needs := self.needs_of(mix, name))]
        tabled = runtime.table != "off" and not all(why_no_table(needs, views) for needs in phases)
        return {"answers": runtime.table_dtype} if tabled and runtime.table_dtype != "fp32" else {}

    @cached_property
    def fingerprint(self) -> str:
        """12 hex digits of its key."""
        return fingerprint(self.key)

    @property
    def folder(self) -> Path:
        """Its folder: in `runs` for students, in `models` for teachers and controls."""
        room = "runs" if self.kind == "student" and self.for_int8 is None else "models"
        return Path(self.ground.run.outputs_dir) / room / f"{self.label}-{self.fingerprint}"

    @property
    def mark(self) -> Path:
        """The file that marks it as finished."""
        return self.folder / ("student.json" if self.folder.parent.name == "runs" else "model.json")

    @cached_property
    def macs(self) -> float:
        """Multiply-accumulates of a step: three passes for a model that learns, one for a teacher."""
        passes = [*((teacher, 1.0) for teacher in self.teachers), (self, 3.0)]
        if self.peer is not None:
            passes.insert(0, (self.peer, 3.0))
        counted = sum(count * each.ground.models.macs(each.built) for each, count in passes)
        return self.recipe.batch * counted

    @property
    def threads(self) -> int:
        """Threads that it uses: those of the configuration, or by its work."""
        ranks = self.ground.machine.ranks
        return self.ground.machine.threads or threads_for(self.macs / ranks.count, ranks.here)

    def initial(self) -> Built:
        """A new model with its initial weights; for 8 bits with those of the model that it begins with, and
        without ranges.
        """
        if self.for_int8 is not None:
            began = self.for_int8.began.initial()
            model = quantised(began.model, self.ground.data.image_shape, self.for_int8.bits)
            return began._replace(model=model)
        reused = self.teachers[0].built if self.model.reuse_classifier else None
        return self.ground.models.build(self.model, self.section, self.seed, reused)

    def new_mix(self, phase: Phase, teacher: Training | None = None) -> Mix:
        """A new mix of a phase, with new adapters. teacher: for a peer, the student that it learns from."""
        other, by_name = (teacher or self.teacher or self).built, None
        if self.several is not None:
            models = (ReadModel(each.built.model, each.ground.models) for each in self.teachers)
            by_name = dict(zip(self.several.names, models, strict=True))
        return build_mix(phase.mix(), self.built.model, other.model, self.ground.models, self.seed, by_name)

    def with_mixes(self, teacher: Training | None = None) -> Training:
        """The same training with a mix for each phase. teacher: as for `new_mix`."""
        return replace(self, mixes=tuple(self.new_mix(phase, teacher) for phase in self.phases))

    @property
    def needs_of_each(self) -> list[frozenset[str]]:
        """The layers of each of its teachers (or of its peer) that its phases read, in order."""
        names = ("",) if self.several is None else self.several.names
        return [frozenset().union(*(self.needs_of(mix, name) for mix in self.mixes)) for name in names]

    def needs_of(self, mix: Mix, name: str = "") -> frozenset[str]:
        """The layers of a teacher that a mix reads. name: of one of several, which a term can read alone, or
        with the others as one.
        """
        if self.several is None or len(self.several.asked) == 1:
            return mix.needs.teacher
        return mix.reads(name) | (mix.reads("") and frozenset({"logits"}))

    def read_by(self, mix: Mix) -> dict[str, tuple[Training, frozenset[str]]]:
        """The teachers that a mix reads, each with the layers that it reads: one of several by its name, a
        single one by an empty name.
        """
        names = ("",) * len(self.teachers) if self.several is None else self.several.names
        named = zip(names, self.teachers, strict=True)
        return {name: (teacher, needs) for name, teacher in named if (needs := self.needs_of(mix, name))}


def section(name: str) -> str:
    """The key of the configuration that describes a model of this name: teacher, teachers.NAME, assistant or
    student.
    """
    if name.startswith(ONE_OF_SEVERAL):
        return f"teachers.{name.removeprefix(ONE_OF_SEVERAL)}"
    return next((key for key in ("teacher", "assistant") if name.startswith(key)), "student")
