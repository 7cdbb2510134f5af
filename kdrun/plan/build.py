"""Models and mixes of a plan, built from configuration, data set and seeds; users' losses are tried first."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import nn

from kdrun.config.schema import Model, Run, is_headless
from kdrun.data.images import ImageSet
from kdrun.errors import KdrunError
from kdrun.eval_mode import evaluating
from kdrun.evaluation.cost import macs
from kdrun.losses.mix import Mix
from kdrun.models.build import Built, build
from kdrun.models.heads import ANY_CLASSES, headless
from kdrun.models.reused import reusing
from kdrun.models.taps import Tapped, layer_names, probe
from kdrun.plan.objective import Phase
from kdrun.plan.suggest import naming_alternatives
from kdrun.training.seeds import derived, global_seed
from kdrun.types import CLASSIFIER, POOLED, Batch, Rows, Shapes
from kdrun.users_code import is_users

NAMED = ("logits", "embedding", POOLED, CLASSIFIER)
"""Layers that every model has, besides its stages."""

IMAGES = 4
"""Of noise, on which the user's own losses are tried."""


@dataclass(frozen=True)
class Models:
    """The models of a data set. Models that differ only in their seed are built and counted once."""

    data: ImageSet
    resize: str
    planned: dict[str, Built] = field(default_factory=dict)
    counted: dict[int, float] = field(default_factory=dict)
    probed: WeakKeyDictionary[nn.Module, dict[frozenset[str], Shapes]] = field(
        default_factory=WeakKeyDictionary
    )

    def plan(self, model: Model, section: str, seed: int, teacher: Built | None = None) -> Built:
        """A model to read shapes and costs from. Its weights can be those of another seed."""
        description = [vars(model) | {"seed": None}, section, id(teacher) if teacher else None]
        key = json.dumps(description, sort_keys=True, default=str)
        if key not in self.planned:
            self.planned[key] = self.build(model, section, seed, teacher)
        return self.planned[key]

    def build(self, model: Model, section: str, seed: int, teacher: Built | None = None) -> Built:
        """A new model with the initial weights of a seed.

        section: the key of the configuration that describes it. teacher: the model whose classifier this
        one reuses, if it has `reuse_classifier`. Raises KdrunError.
        """
        description = {
            "name": model.name,
            "family": model.family,
            "args": model.args,
            "stem": model.stem,
            "pretrained": model.pretrained,
            "role": section,
            "normalisation": (self.data.mean, self.data.std),
        }
        weights, without = derived(seed, "weights"), is_headless(model)
        classes = ANY_CLASSES if without else len(self.data.classes)
        built = build(description, classes, self.data.image_shape, self.resize, weights)
        if without:
            return headless(built, model.name, section)
        if teacher is None:
            return built
        projector = derived(weights, "projector")
        factor = model.projector_factor
        return reusing(built, teacher.model, self.data.image_shape, classes, projector, factor)

    def macs(self, built: Built) -> float:
        """Multiply-accumulates of a model from `plan`, for one image."""
        if id(built.model) not in self.counted:
            self.counted[id(built.model)] = macs(built.model, self.data.image_shape)
        return self.counted[id(built.model)]

    def shapes(self, model: nn.Module, needs: frozenset[str]) -> Shapes:
        """The shapes of a model's layers, with those among `needs` that not every model has."""
        shapes, layers = self.probed.setdefault(model, {}), frozenset(layer_paths(needs)) | (needs & {POOLED})
        if layers not in shapes:
            shapes[layers] = probe(model, self.data.image_shape, sorted(layers))
        return shapes[layers]


class ReadModel(NamedTuple):
    """A model that a mix reads, and the models of its data set."""

    model: nn.Module
    models: Models


def build_mix(
    mix: Mix,
    student: nn.Module,
    teacher: nn.Module,
    models: Models,
    seed: int,
    several: Mapping[str, ReadModel] | None = None,
) -> Mix:
    """Gives a mix its adapters, by the models' shapes and with their own seed. Returns the same mix.

    several: teachers by name, the first of which is `teacher`, if there are several or one with other
    classes. Raises KdrunError if the mix reads a layer that a model does not have.
    """
    read = {name: each.model for name, each in (several or {}).items()}
    _check_paths(mix, "student", student)
    _check_paths(mix, "teacher", teacher, read)
    with (
        global_seed(derived(seed, "adapters"), "adapters"),
        naming_alternatives(mix, student, teacher, models.data.image_shape, several is None),
    ):
        theirs = _shapes(mix, several, models) if several else {"": models.shapes(teacher, mix.needs.teacher)}
        mix.build(
            models.shapes(student, mix.needs.student),
            theirs.pop(""),
            images=len(models.data.taught_labels),
            teachers=theirs,
        )
    return mix


def _shapes(mix: Mix, several: Mapping[str, ReadModel], models: Models) -> dict[str, Shapes]:
    """The shapes of each of several teachers by its name, and under an empty name those of all as one.

    Each answers with logits over the classes of the data set.
    """
    logits = {"logits": (len(models.data.classes),)}
    single = len(several) == 1
    shapes = {
        name: read.models.shapes(read.model, mix.needs.teacher if single else mix.reads(name))
        for name, read in several.items()
    }
    own = {name: each._replace(layers={**each.layers, **logits}) for name, each in shapes.items()}
    whole = next(iter(own.values())) if len(own) == 1 else Shapes(logits, 0)
    return own | {"": whole}


def layer_paths(needs: frozenset[str]) -> list[str]:
    """The layers that are paths of modules. Every model has the others."""
    return sorted(name for name in needs if name not in NAMED and not name.startswith("stage"))


def _check_paths(
    mix: Mix, role: str, model: nn.Module, several: Mapping[str, nn.Module] | None = None
) -> None:
    for term in mix.terms:
        paths = layer_paths(getattr(term.loss.needs, role))
        names: Sequence[str] = layer_names((several or {}).get(term.teacher, model)) if paths else ()
        for name in paths:
            if name not in names:
                raise KdrunError(f"{mix.key}.{term.name}", name, f"the {role} has no such layer", names)


def rehearse(
    run: Run, phases: tuple[Phase, ...], student: nn.Module, teacher: nn.Module, models: Models
) -> None:
    """Calls each phase with a user's loss once. Weights and random numbers are the same afterwards.

    student, teacher: planned models, images to logits. Raises KdrunError for a loss that raises, or returns
    something other than a tensor, a tensor of another shape, or NaN.
    """
    for phase in phases if run.packages else ():
        if not any(is_users(term.loss) for term in phase.mix().terms):
            continue
        with global_seed(derived(run.seed, "rehearsal"), "rehearsal"):
            mix = build_mix(phase.mix(), student, teacher, models, run.seed)
            _try(mix, student, teacher, models)


def _try(mix: Mix, student: nn.Module, teacher: nn.Module, models: Models) -> None:
    shape, classes = models.data.image_shape, len(models.data.classes)
    index = torch.arange(IMAGES)
    batch = Batch(torch.randn(IMAGES, *shape), index % classes, Rows(index, torch.zeros_like(index)))
    tapped = Tapped(student, mix.needs.student, "loss"), Tapped(teacher, mix.needs.teacher, "loss")
    try:
        with torch.no_grad():
            with evaluating(student), evaluating(teacher):
                outputs = [each(batch.images) for each in tapped]
            mixture = mix(*outputs, batch)
    finally:
        for each in tapped:
            each.close()
    for term, value in zip(mix.terms, mixture.values, strict=True):
        if is_users(term.loss) and torch.isnan(value):
            problem = f"is not a number (nan) for {IMAGES} images of noise"
            raise KdrunError(f"{mix.key}.{term.name}", None, problem)
