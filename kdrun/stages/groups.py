"""Groups of trainings that share a loop, and estimates of their time."""

from __future__ import annotations

from collections.abc import Sequence
from operator import mul
from pathlib import Path
from typing import Any

from torch.nn.modules.dropout import _DropoutNd

from kdrun.artefacts import fingerprint
from kdrun.plan.answers import answers_plan
from kdrun.plan.plan import Plan
from kdrun.plan.training import Training
from kdrun.types import CLASSIFIER

STACKED_MACS = 60e6
"""Models with fewer multiply-accumulates per step are worth batching: their time is mostly overhead."""

STACKED, SHARED, BESIDE = 32, 8, 4
"""The most learners in one loop: of a batched model; that only share a live teacher; that only share a GPU,
most of which one alone would leave idle. The last number is a guess: `scripts/gpu` measures it.
"""

DRAWING = ("StochasticDepth", "DropPath")
"""Classes of other libraries that draw random numbers, besides torch's dropout."""

STEP_SECONDS, MACS_A_SECOND = 0.5e-3, 2e10
"""The least time of a step, and the speed of one core. For estimates."""

EVALUATION = 0.5
"""Seconds of a job's evaluation without latencies, for small models."""

WORTH_STACKING = 8.0
"""Below so many estimated seconds of training, batching does not pay: tracing takes about 3 seconds."""

Group = list[Training]


def groups(trainings: Sequence[Training]) -> list[Group]:
    """The trainings in groups that can share a loop and gain by it; most often each is alone.

    Small students of one architecture become one batched model. Students of several architectures share the
    answers of a live teacher.
    """
    shared = _of_several_models(trainings)
    by_kind: dict[str, Group] = {}
    for training in trainings:
        by_kind.setdefault(shared.get(training.folder) or _kind(training), []).append(training)
    return [part for kind, group in by_kind.items() for part in _parts(kind, group)]


def seconds(group: Sequence[Training]) -> float:
    """An estimate of the trainings' time on one core, one after the other."""
    steps = [training.epochs * training.row_set().steps for training in group]
    one = [STEP_SECONDS + training.macs / MACS_A_SECOND for training in group]
    return float(sum(map(mul, steps, one)))


def evaluation_seconds(plan: Plan) -> float:
    """Estimated seconds of a job's evaluation."""
    return EVALUATION + latency_seconds(plan) if "evaluate" in plan.run.stages else 0.0


def latency_seconds(plan: Plan) -> float:
    """Seconds of its latencies: up to `evaluation.seconds` for each batch size and device, of all models
    together.
    """
    evaluation = plan.run.evaluation
    devices = 1 if plan.ground.machine.device.type == "cpu" else 2
    return len(evaluation.batches) * devices * evaluation.seconds if evaluation.latency else 0.0


def spread(parts: Sequence[Group], processes: int) -> list[Group]:
    """The groups, the largest first. A group that would keep one process busy while others wait is split."""
    return cut(parts, sum(map(seconds, parts)) / processes)


def cut(parts: Sequence[Group], share: float) -> list[Group]:
    """The groups, the largest first. Those of several trainings that take more than `share` estimated seconds
    are halved until they do not.
    """
    large = [group for group in parts if len(group) > 1 and seconds(group) > share]
    small = [group for group in parts if group not in large]
    while large:
        group = large.pop()
        for half in (group[: len(group) // 2], group[len(group) // 2 :]):
            (large if len(half) > 1 and seconds(half) > share else small).append(half)
    return sorted(small, key=seconds, reverse=True)


def stackable(training: Training) -> bool:
    """Whether a learner that can share a loop can be part of a batched model, and gains by it."""
    (mix,) = training.mixes
    plain = CLASSIFIER not in mix.needs.student | mix.needs.teacher and not mix.needs.indices
    steady = all(term.loss.capturable for term in mix.terms)
    return plain and steady and training.momentum_delta is None and training.macs < STACKED_MACS


def batched(group: Group) -> bool:
    """Whether the trainings of a loop form one batched model."""
    return stackable(group[0]) and len({_stack(training) for training in group}) == 1


def _parts(kind: str, group: Group) -> list[Group]:
    most = {"live": SHARED, "beside": BESIDE}.get(kind.partition(" ")[0], STACKED)
    if kind.startswith("stacked") and seconds(group) < WORTH_STACKING:
        most = 1
    return [group[first : first + most] for first in range(0, len(group), most)]


def _of_several_models(trainings: Sequence[Training]) -> dict[Path, str]:
    """The kind of each student that shares a live teacher with another architecture's students, by folder."""
    students = [training for training in trainings if training.kind == "student" and _can_share(training)]
    if len({_model(training) for training in students}) < 2:
        return {}
    kinds = {training.folder: kind for training in students if (kind := _live_kind(training))}
    models: dict[str, set[str]] = {}
    for training in students:
        models.setdefault(kinds.get(training.folder, ""), set()).add(_model(training))
    return {folder: kind for folder, kind in kinds.items() if len(models[kind]) > 1}


def _kind(training: Training) -> str:
    """Equal for trainings of one group."""
    if not _can_share(training):
        return "alone " + training.folder.name
    if stackable(training):
        return "stacked " + fingerprint([*_common(training), _stack(training)])
    live = _live_kind(training) if training.kind == "student" else ""
    return live or _beside_kind(training) or "alone " + training.folder.name


def _live_kind(training: Training) -> str:
    """Equal for students that ask a live teacher about the same batches; empty for others."""
    if not answers_plan(training).runs:
        return ""
    recipe = training.recipe  # its other values can differ within a loop
    return "live " + fingerprint(
        [*_common(training), training.seed, recipe.epochs, training.epochs, recipe.batch]
    )


def _beside_kind(training: Training) -> str:
    """Equal for trainings that share a GPU: they read a cached teacher, or none. Empty for others."""
    if not on_gpu(training) or _draws(training) or answers_plan(training).kind not in ("tabled", "none"):
        return ""
    return "beside " + fingerprint([*_common(training), training.key["recipe"]])


def _can_share(training: Training) -> bool:
    together = training.ground.run.runtime.together and training.ground.machine.ranks.count == 1
    single = len(training.phases) == 1 and training.peer is None
    return together and single and training.for_int8 is None


def _common(training: Training) -> list[Any]:
    """What all trainings of a group have in common, whatever its kind."""
    ground, apart = training.ground, ("seed", "model", "loss", "recipe")
    key = {name: value for name, value in training.key.items() if name not in apart}
    about: list[Any] = [key, training.kind, ground.headline, len(training.rows), ground.run.outputs_dir]
    return [*about, str(ground.machine), *map(sorted, training.needs_of_each)]


def _stack(training: Training) -> str:
    """Equal for learners that differ only in weights, seed and the numbers of their mixes."""
    terms = {
        name: {key: value for key, value in term.items() if key not in ("weight", "temperature")}
        for name, term in training.loss.items()
    }
    return fingerprint([_model(training), training.key["recipe"], terms, training.mixes[-1].names])


def _model(training: Training) -> str:
    return fingerprint(training.key["model"])


def on_gpu(training: Training) -> bool:
    """Whether it computes on a GPU. A small model alone leaves most of it idle."""
    return training.ground.machine.device.type == "cuda"


def _draws(training: Training) -> bool:
    """Whether its model or its losses draw random numbers: then it cannot share a CUDA graph with others."""
    losses = [term.loss for mix in training.mixes for term in mix.terms]
    return any(loss.draws for loss in losses) or any(
        (isinstance(module, _DropoutNd) and module.p > 0) or type(module).__name__ in DRAWING
        for module in training.built.model.modules()
    )
