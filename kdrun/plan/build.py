"""Models and mixes of a plan, built from configuration, data set and seeds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

from torch import nn

from kdrun.config.schema import Model
from kdrun.data.images import ImageSet
from kdrun.errors import KdrunError
from kdrun.evaluation.cost import macs
from kdrun.losses.mix import Mix
from kdrun.models.build import Built, build
from kdrun.models.reused import reusing
from kdrun.models.taps import layer_names, probe
from kdrun.plan.suggest import naming_alternatives
from kdrun.training.seeds import derived, global_seed
from kdrun.types import CLASSIFIER, POOLED, Shapes

NAMED = ("logits", "embedding", POOLED, CLASSIFIER)
"""Layers that every model has, besides its stages."""


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
        weights, classes = derived(seed, "weights"), len(self.data.classes)
        built = build(description, classes, self.data.image_shape, self.resize, weights)
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


def build_mix(mix: Mix, student: nn.Module, teacher: nn.Module, models: Models, seed: int) -> Mix:
    """Gives a mix its adapters, by the models' shapes and with their own seed. Returns the same mix.

    Raises KdrunError if the mix reads a layer that a model does not have.
    """
    _check_paths(mix, "student", mix.needs.student, student)
    _check_paths(mix, "teacher", mix.needs.teacher, teacher)
    with (
        global_seed(derived(seed, "adapters"), "adapters"),
        naming_alternatives(mix, student, teacher, models.data.image_shape),
    ):
        mix.build(
            models.shapes(student, mix.needs.student),
            models.shapes(teacher, mix.needs.teacher),
            images=len(models.data.taught_labels),
        )
    return mix


def layer_paths(needs: frozenset[str]) -> list[str]:
    """The layers that are paths of modules. Every model has the others."""
    return sorted(name for name in needs if name not in NAMED and not name.startswith("stage"))


def _check_paths(mix: Mix, role: str, needs: frozenset[str], model: nn.Module) -> None:
    if not layer_paths(needs):
        return
    names: Sequence[str] = layer_names(model)
    for term in mix.terms:
        for name in layer_paths(getattr(term.loss.needs, role)):
            if name not in names:
                raise KdrunError(f"{mix.key}.{term.name}", name, f"the {role} has no such layer", names)
