"""The parts of a training's key: all that its weights depend on, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kdrun.artefacts import file_hash, typed_path
from kdrun.config.schema import Model, Recipe, is_headless
from kdrun.errors import KdrunError
from kdrun.machine import Machine
from kdrun.plan.objective import Terms, epochs_of


def model_key(model: Model) -> dict[str, Any]:
    """A model's description. A checkpoint counts by its content."""
    key: dict[str, Any] = {
        "name": model.name,
        "family": model.family,
        "args": dict(model.args),
        "stem": model.stem,
        "pretrained": model.pretrained,
    }
    if model.reuse_classifier:
        key["reuse_classifier"] = True
        if model.projector_factor != 2:
            key["projector_factor"] = model.projector_factor
    if is_headless(model):
        key["head"] = "none"
    if model.checkpoint:
        path = typed_path(model.checkpoint)
        if not path.is_file():
            raise KdrunError("checkpoint", model.checkpoint, "no such file")
        key["checkpoint"] = file_hash(path)
    return key


def head_key(machine: Machine) -> dict[str, str]:
    """Marks bf16 trainings whose head computes in float32: in earlier versions it computed in bf16."""
    return {"head": "fp32"} if machine.precision == "bf16" else {}


def recipe_key(recipe: Recipe) -> dict[str, Any]:
    """A recipe without its name, and with `stop_at` only if it stops early."""
    key = {name: value for name, value in vars(recipe).items() if name not in ("name", "stop_at")}
    return key | ({"stop_at": epochs_of(recipe)} if epochs_of(recipe) < recipe.epochs else {})


def loss_key(loss: Terms) -> Mapping[str, Mapping[str, Any]]:
    """The terms as plain values."""
    return {name: dict(term) for name, term in loss.items()}
