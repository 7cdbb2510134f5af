"""The models of a run in the order in which they are trained, each but the first taught by the one before."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from kdrun.artefacts import file_hash
from kdrun.config.schema import Model, Recipe, Run
from kdrun.errors import KdrunError
from kdrun.training.seeds import derived

Loss = Mapping[str, Mapping[str, Any]]

UPDATES = ("optimiser", "lr", "momentum", "nesterov", "weight_decay", "betas", "clip")
"""Of a recipe, what an update is like; the rest is for how long, in which batches and by which schedule."""


class Link(NamedTuple):
    """One model of a run. name: teacher, assistant (of several: assistant1), generation1, student.
    seed: of its first weights and of its epochs.
    """

    name: str
    node: Model
    recipe: Recipe
    seed: int

    @property
    def key(self) -> str:
        """Below which key of the configuration the model is written."""
        return next((key for key in ("teacher", "assistant") if self.name.startswith(key)), "student")


def links(run: Run) -> Iterator[Link]:
    """The teacher; the assistants (Mirzadeh et al. 2020) and earlier generations (Furlanello et al. 2018) in
    between; the student.

    Of those that are taught, one of the architecture of an earlier one begins with other weights.
    """
    yield Link("teacher", run.teacher, run.recipe.teacher, run.teacher.seed or 0)
    several = len(run.assistant) > 1
    names = [f"assistant{i}" if several else "assistant" for i, _ in enumerate(run.assistant, 1)]
    names += [*(f"generation{i}" for i in range(1, run.generations)), "student"]
    nodes = [*run.assistant, *[run.student] * run.generations]
    recipes = [*run.recipe.assistant, *[run.recipe.student] * run.generations]
    models = [(node.family, node.args, node.stem, node.pretrained) for node in nodes]
    for i, (name, node, recipe) in enumerate(zip(names, nodes, recipes, strict=True)):
        seed, earlier = run.seed if node.seed is None else node.seed, models[:i].count(models[i])
        yield Link(name, node, recipe, derived(seed, "generation", earlier + 1) if earlier else seed)


def peer(run: Run, student: Link) -> Link:
    """One of the teacher's architecture that is trained along with the student, from weights of its own, in
    the same steps; its optimiser and rate are the teacher's.
    """
    seed = student.seed if run.teacher.seed is None else run.teacher.seed
    own = {name: getattr(run.recipe.teacher, name) for name in UPDATES}
    return Link("teacher", run.teacher, replace(student.recipe, **own), derived(seed, "peer"))


def teachers_loss(run: Run) -> Loss:
    """What a teacher minimises."""
    return smoothed({"hard": {"name": "cross_entropy", "weight": 1.0}}, run.recipe.teacher)


def students_loss(run: Run, recipe: Recipe) -> Loss:
    """What one that is taught minimises."""
    return smoothed(run.loss, recipe)


def controls_loss(run: Run) -> Loss:
    """What a control minimises: cross-entropy, with the arguments of the student's own where it has one."""
    own = next((t for t in run.loss.values() if t.get("name") == "cross_entropy"), {"name": "cross_entropy"})
    return smoothed({"hard": dict(own) | {"weight": 1.0}}, run.recipe.student)


def epochs_of(recipe: Recipe) -> int:
    """How many epochs are trained: all, or up to `stop_at`, an epoch or a fraction of all."""
    stop = recipe.stop_at
    if isinstance(stop, float):
        return max(1, round(stop * recipe.epochs))
    return recipe.epochs if stop is None else int(stop)


def recipe_key(recipe: Recipe) -> dict[str, Any]:
    """What of a recipe decides the weights; where it is stopped early, the epoch."""
    key = {name: value for name, value in vars(recipe).items() if name not in ("name", "stop_at")}
    return key | ({"stop_at": epochs_of(recipe)} if epochs_of(recipe) < recipe.epochs else {})


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


def smoothed(loss: Loss, recipe: Recipe) -> Loss:
    """The recipe's label smoothing in every cross-entropy that does not have its own."""
    found = {name: dict(term) for name, term in loss.items()}
    for term in found.values():
        if term.get("name") == "cross_entropy" and not term.get("label_smoothing"):
            term["label_smoothing"] = recipe.label_smoothing
    return found
