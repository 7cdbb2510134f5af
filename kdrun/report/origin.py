"""The origin of a report's models: their initial weights, and how they were trained."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kdrun.config.choices import is_control
from kdrun.config.controls import as_trained
from kdrun.config.schema import UPDATES, Recipe
from kdrun.figures import ABSENT, as_typed, count, percent, plural
from kdrun.nested import grouped
from kdrun.report.schema import ModelReport, Report, called, named_control, roles

IMAGENET = re.compile(r"IMAGENET1K|in1k|in12k|in21k|in22k", re.IGNORECASE)
"""In the names of weights that were trained on ImageNet or a part of it."""

TRAININGS = ("", "recipe", "optimiser", "learning rate", "batch", "epochs", "augmentation")
"""Headings of `trainings`."""

ARGUMENTS = {
    "crop_flip": ("padding", "flip"),
    "affine": ("degrees", "scale", "shear", "shift"),
    "resized_crop": ("area", "flip"),
}
"""The arguments that are shown for each kind of view."""


def origin(model: ModelReport) -> str:
    """`fine-tuned from ImageNet weights (IMAGENET1K_V1), 4 epochs`, or `trained, 80 epochs`."""
    source, began = model.get("source", ""), model.get("began_from")
    done = source
    if began is not None:
        loaded = source in ("checkpoint", "pretrained", "run")
        done = f"{weights(began)}, not trained here" if loaded else f"fine-tuned from {weights(began)}"
    parts = [done, plural(model["epochs"], "epoch") if "epochs" in model else ""]
    return ", ".join([*filter(None, parts), *(["cached"] if source == "cache" and began else [])])


def weights(name: str) -> str:
    """`ImageNet weights (IMAGENET1K_V1)` of the name of pretrained weights; `weights of t.pth` of a file."""
    if "/" in name or re.search(r"\.(pth?|safetensors|bin|ckpt|tar)$", name):
        return f"weights of {name}"
    short = name.partition("_Weights.")[2] or name
    return f"ImageNet weights ({short})" if IMAGENET.search(name) else f"{name} weights"


def began(report: Report) -> list[str]:
    """A line for models with initial weights, one for all alike: `student, control: resnet18, ...`."""
    models = report["models"]
    begun = [role for role in roles(report) if "began_from" in models[role]]
    by_words = grouped(begun, lambda role: f"{models[role].get('name', '')}, {origin(models[role])}")
    return [f"{', '.join(several)}: {words}" for words, several in by_words.items()]


def trainings(report: Report) -> Iterator[Sequence[str]]:
    """A row under TRAININGS for each model that was trained."""
    config = report.get("config", {})
    for role in roles(report):
        model = report["models"][role]
        recipe = _recipe(role, model, config.get("recipe", {}))
        if is_control(role) and recipe:
            recipe = _as_control(report, role, recipe)
        if recipe and model.get("source") not in ("checkpoint", "pretrained", "together", "run"):
            done, whole = model.get("epochs"), recipe.get("epochs")
            epochs = as_typed(whole) if done in (None, whole) else f"{count(done)} of {as_typed(whole)}"
            batch = as_typed(recipe.get("batch", ABSENT))
            how = (str(recipe.get("name", ABSENT)), _optimiser(recipe), _rate(recipe), batch, epochs)
            yield (called(report, role), *how, _augmentation(_dataset(role, config).get("views", {})))


def _dataset(role: str, config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The data set of a role: a teacher's own, or the run's."""
    node: Mapping[str, Any] = config.get("teacher") or {} if role == "teacher" else {}
    if role.startswith("teacher_"):
        node = (config.get("teachers") or {}).get(role.removeprefix("teacher_"), {})
    return node.get("dataset") or config.get("dataset") or {}


def _recipe(role: str, model: ModelReport, recipes: Mapping[str, Any]) -> Mapping[str, Any]:
    """The recipe of a role; none if the report does not have it."""
    student, teacher = recipes.get("student", {}), recipes.get("teacher", {})
    if model.get("source") == "peer":
        return {**student, **{key: teacher[key] for key in UPDATES if key in teacher}}
    if role == "teacher":
        return dict(teacher)
    if role.startswith("teacher_"):
        return dict(recipes.get("teachers", {}).get(role.removeprefix("teacher_"), teacher))
    number = re.fullmatch(r"assistant(\d*)", role)
    if number is None:
        return dict(student)
    several, position = recipes.get("assistant", []), int(number[1] or 1) - 1
    return dict(several[position]) if position < len(several) else {}


def _as_control(report: Report, role: str, student: Mapping[str, Any]) -> Mapping[str, Any]:
    """The recipe of a control. student: the student's."""
    name, models = named_control(role), report["models"]
    if name not in ("smoothed", "longer"):
        return student
    times = models[role].get("epochs", 1) / models["student"].get("epochs", 1)
    return vars(as_trained(name, Recipe(**student), report.get("config", {}).get("controls", {}), times))


def _optimiser(recipe: Mapping[str, Any]) -> str:
    parts = [str(recipe.get("optimiser", ABSENT))]
    if recipe.get("optimiser") == "sgd" and recipe.get("momentum"):
        parts.append(f"{'Nesterov ' * bool(recipe.get('nesterov'))}momentum {as_typed(recipe['momentum'])}")
    for key, words in (("weight_decay", "weight decay"), ("clip", "clip"), ("label_smoothing", "smoothing")):
        if recipe.get(key):
            parts.append(f"{words} {as_typed(recipe[key])}")
    return ", ".join(parts)


def _rate(recipe: Mapping[str, Any]) -> str:
    parts, schedule = [as_typed(recipe.get("lr", ABSENT))], recipe.get("schedule", "constant")
    if schedule == "step":
        parts.append(f"times {as_typed(recipe.get('gamma'))} after {as_typed(recipe.get('milestones', []))}")
    else:
        parts.append(str(schedule))
    if schedule in ("cosine", "onecycle") and recipe.get("warmup"):
        parts.append(f"warm-up {percent(100 * recipe['warmup'])} %")
    return ", ".join(parts)


def _augmentation(views: Mapping[str, Any]) -> str:
    """`crop_flip (padding 4, flip true)`, `none`."""
    name = str(views.get("name", ABSENT))
    known = [key for key in ARGUMENTS.get(name, ()) if key in views]
    own = ", ".join(f"{key} {as_typed(views[key])}" for key in known)
    return f"{name} ({own})" if own else name
