"""Ranges and choices of a whole run, each mistake with its full key. Data and models are checked later."""

from __future__ import annotations

import importlib.util
import math
import os
import re
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from kdrun.config.check_teachers import check_teachers, named_teachers
from kdrun.config.choices import (
    DATASET_KEYS,
    DEVICES,
    DIAGNOSTICS,
    HEADLINES,
    LOGGERS,
    OPTIMISERS,
    PRECISIONS,
    RESIZES,
    SCHEDULES,
    STAGES,
    STEMS,
    SWITCHES,
    TABLE_DTYPES,
    TRANSFERS,
)
from kdrun.config.schema import Evaluation, Model, Recipe, Run, Runtime
from kdrun.errors import KdrunError
from kdrun.figures import as_typed
from kdrun.lookup import refuse_unlisted
from kdrun.schedule import Schedule

MOST_IMAGES, MOST_SAMPLES, MOST_SECONDS = 65_536, 1_000_000, 3600
"""The largest batch, the most samples and the longest time of a latency that can be meant."""


def check(run: Run, shared_with_labels: bool = True) -> None:
    """Raises KdrunError for the first value that cannot be meant.

    shared_with_labels: whether the labels weigh 1 - alpha, so that alpha cannot be above 1.
    """
    _packages(run)
    _loggers(run.logger)
    for name in run.diagnostics:
        _one_of("diagnostics", name, DIAGNOSTICS)
    _choices(run)
    _shared(run, shared_with_labels)
    _dataset(run.dataset)
    _pool(run)
    for role, model in (*named_teachers(run).items(), ("student", run.student)):
        _model(role, model, run.packages)
    check_teachers(run)
    for role, recipe in (("teacher", run.recipe.teacher), ("student", run.recipe.student)):
        _recipe(f"recipe.{role}", recipe)
    for recipe in run.recipe.teachers.values():
        _recipe("recipe.teacher", recipe)
    _labelled_share(run.recipe.labelled_share)
    _chain(run)
    for key, loss in (("loss", run.loss), ("phase_one.loss", run.phase_one.loss)):
        for name, term in loss.items():
            _term(f"{key}.{name}", term, run.packages)
    _phase_one(run)
    _momenta(run)
    _classifiers(run)
    _peer(run)
    _named(run.dataset.get("source"), "dataset.source", run.packages)
    for part in ("train", "validation", "test"):
        _class(run.dataset.get(f"{part}_class"), f"dataset.{part}_class", run.packages)
    _pace(run)
    _evaluation(run.evaluation, run.packages)
    _runtime(run.runtime)


def _packages(run: Run) -> None:
    """A user's packages must be importable; from the working folder too, as with `python -m`."""
    if run.packages and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    for package in run.packages:
        if not all(part.isidentifier() for part in package.split(".")) or not _found(package.split(".")[0]):
            raise KdrunError("packages", package, "no such package in this folder or in this Python")


def _loggers(names: Collection[str]) -> None:
    """What a run is recorded with must be installed, before hours have passed."""
    for name in names:
        _one_of("logger", name, LOGGERS)
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:  # without an origin: a folder of that name, as wandb leaves
            raise KdrunError("logger", name, f"is not installed: pip install 'kdrun[{name}]'")


def _found(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def _named(name: Any, key: str, packages: Collection[str]) -> None:
    """A dotted name is a module of the user's and must lie in a package that the user listed."""
    if not isinstance(name, str) or not name:
        raise KdrunError(key, name, "a name is needed")
    if "." in name:
        refuse_unlisted(name, key, name, packages)


def _class(name: Any, key: str, packages: Collection[str]) -> None:
    """`module:Class` must lie in a package that the user listed, even if the module has no dot."""
    if name is not None:
        refuse_unlisted(str(name).partition(":")[0], key, str(name), packages)


def _choices(run: Run) -> None:
    _texts("stages", run.stages)
    if not run.stages or len(set(run.stages)) < len(run.stages) or not set(run.stages) <= set(STAGES):
        wrong = [stage for stage in run.stages if stage not in STAGES]
        problem = "no such stage" if wrong else "each stage at most once, and at least one"
        raise KdrunError("stages", wrong[0] if wrong else _listed(run.stages), problem, STAGES)
    _one_of("precision", run.precision, PRECISIONS)
    _one_of("transfer", run.transfer, TRANSFERS)
    if run.phase_one.transfer is not None:
        _one_of("phase_one.transfer", run.phase_one.transfer, TRANSFERS)
    if run.transfer_classes and run.transfer_without:
        problem = "and transfer_classes exclude each other: one names what stays, one what goes"
        raise KdrunError("transfer_without", _listed(run.transfer_without), problem)
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", run.device):
        raise KdrunError("device", run.device, "no such device", DEVICES)
    if run.threads != "auto" and not _whole(run.threads, 1):
        raise KdrunError("threads", run.threads, "must be auto or a whole number from 1")
    _at_least("seed", run.seed, 0)
    for key in ("data_dir", "outputs_dir"):
        if not getattr(run, key).strip():
            raise KdrunError(key, "''", "a folder is needed")


def _shared(run: Run, shared_with_labels: bool) -> None:
    if run.temperature is not None:
        _above_zero(run.temperature, "temperature")
    if run.alpha is None:
        return
    alpha = Schedule.parse(run.alpha, "alpha")
    most = 1 if shared_with_labels else math.inf
    if not all(0 <= value <= most for value in (alpha.start, alpha.end)):
        allowed = "between 0 and 1" if shared_with_labels else "0 or more"
        raise KdrunError("alpha", _shown(run.alpha), f"must be {allowed} (weight of the distillation term)")


def _above_zero(value: Any, key: str) -> None:
    schedule = Schedule.parse(value, key)
    if min(schedule.start, schedule.end) <= 0:
        raise KdrunError(key, _shown(value), "must be above 0")


def _dataset(dataset: Mapping[str, Any]) -> None:
    """What is wrong whatever the data is; the rest is checked when it is read."""
    for key in DATASET_KEYS:
        if key not in dataset or (key in ("name", "source") and not dataset[key]):
            raise KdrunError(f"dataset.{key}", None, "is missing: every data set must give it")
    for key in ("name", "source"):
        _texts(f"dataset.{key}", [dataset[key]])
    _one_of("dataset.headline", dataset["headline"], HEADLINES)
    _one_of("dataset.resize", dataset["resize"], RESIZES)
    for key in ("split", "label_seed"):
        if not _whole(dataset[key], 0):
            raise KdrunError(f"dataset.{key}", dataset[key], "must be a whole number from 0")
    if not (dataset["train"] is None or _whole(dataset["train"], 1)):
        problem = "must be a whole number from 1, or null (all that are left)"
        raise KdrunError("dataset.train", dataset["train"], problem)
    for key, least in (("validation", 0), ("test", 1)):
        value = dataset[key]
        if not (value is None or _whole(value, least) or (isinstance(value, float) and 0 < value < 1)):
            problem = f"must be a whole number from {least} or a fraction below 1"
            raise KdrunError(f"dataset.{key}", value, problem)
    if not isinstance(dataset["views"], Mapping):
        problem = f"these are keys below it; dataset.views.name={dataset['views']} chooses views"
        raise KdrunError("dataset.views", dataset["views"], problem)
    _labelled(dataset["labelled"])
    _unlabelled(dataset)
    _normalisation(dataset)


def _labelled(labelled: Any) -> None:
    if isinstance(labelled, str):
        if not Path(labelled).expanduser().is_file():
            problem = "no such file. A count per class, a fraction, or a file of indices, one a line"
            raise KdrunError("dataset.labelled", labelled, problem)
        return
    fraction = isinstance(labelled, float) and 0 < labelled <= 1
    if not (labelled is None or fraction or _whole(labelled, 1)):
        problem = "must be a count per class from 1, a fraction above 0 and up to 1, a file, or null (all)"
        raise KdrunError("dataset.labelled", _shown(labelled), problem)


def _unlabelled(dataset: Mapping[str, Any]) -> None:
    """Ranges of what is mined. Folder or name was looked up before."""
    confidence, most = (dataset.get(f"unlabelled_{key}") for key in ("confidence", "top_k"))
    if confidence is not None and not (_number(confidence) and 0 < confidence <= 1):
        problem = "must be above 0 and up to 1, the teacher's probability of its most likely class, or null"
        raise KdrunError("dataset.unlabelled_confidence", _shown(confidence), problem)
    if not (most is None or _whole(most, 1)):
        problem = "must be a whole number from 1, images of each class, or null"
        raise KdrunError("dataset.unlabelled_top_k", _shown(most), problem)
    if dataset.get("unlabelled") is None and (confidence is not None or most is not None):
        key = "dataset.unlabelled_top_k" if confidence is None else "dataset.unlabelled_confidence"
        raise KdrunError(
            key, most if confidence is None else confidence, "needs dataset.unlabelled=FOLDER or a data set"
        )


def _pool(run: Run) -> None:
    """What rules out images without labels, or their choice by a teacher."""
    dataset = run.dataset
    if dataset.get("unlabelled") is None:
        return
    if run.transfer == "labelled":
        raise KdrunError(
            "transfer", "labelled", "leaves out the images of dataset.unlabelled; transfer=all uses them"
        )
    mined = any(dataset.get(f"unlabelled_{key}") is not None for key in ("confidence", "top_k"))
    if mined and run.peer:
        problem = "a peer is no trained teacher that could choose images"
        raise KdrunError("dataset.unlabelled_confidence", dataset.get("unlabelled_confidence"), problem)


def _normalisation(dataset: Mapping[str, Any]) -> None:
    """What pixels become: (pixel / white - mean) / std."""
    for key in ("mean", "std"):
        value = dataset[key]
        values = value if isinstance(value, (list, tuple)) else [value]
        if not values or not all(map(_number, values)):
            raise KdrunError(f"dataset.{key}", value, "must be a number, or one for each channel")
        if key == "std" and min(values) <= 0:
            raise KdrunError("dataset.std", value, "must be above 0")
    if not (_number(dataset["white"]) and dataset["white"] > 0):
        raise KdrunError("dataset.white", dataset["white"], "must be a number above 0")


def _model(role: str, model: Model, packages: Collection[str]) -> None:
    _named(model.family, f"{role}.family", packages)
    _one_of(f"{role}.stem", model.stem, STEMS)
    if model.seed is not None:
        _at_least(f"{role}.seed", model.seed, 0)
    if model.checkpoint is not None and not Path(model.checkpoint).expanduser().is_file():
        raise KdrunError(f"{role}.checkpoint", model.checkpoint, "no such file")
    _pretrained(role, model)
    _at_least(f"{role}.projector_factor", model.projector_factor, 1)


def _pretrained(role: str, model: Model) -> None:
    key, value = f"{role}.pretrained", as_typed(model.pretrained)
    if not isinstance(model.pretrained, (bool, str)) or model.pretrained == "":
        raise KdrunError(key, value, "must be true, false or the name of weights (IMAGENET1K_V1)")
    if model.pretrained and model.checkpoint is not None:
        raise KdrunError(key, value, f"and {role}.checkpoint exclude each other")
    if model.pretrained and model.family not in ("torchvision", "timm"):
        problem = f"there are no weights of {model.name}, only of torchvision's and timm's models"
        raise KdrunError(key, value, problem)


def _chain(run: Run) -> None:
    _at_least("generations", run.generations, 1)
    if run.generations > 1 and run.student.checkpoint is not None:
        problem = "and student.checkpoint exclude each other: every generation begins with weights of its own"
        raise KdrunError("generations", run.generations, problem)
    for model, recipe in zip(run.assistant, run.recipe.assistant, strict=True):
        _model("assistant", model, run.packages)
        _recipe("recipe.student", recipe)
        if model.checkpoint is not None:
            problem = (
                "an assistant is trained. To take one as it is, make it the teacher: teacher.checkpoint="
            )
            raise KdrunError("assistant", model.name, problem)


def _recipe(key: str, recipe: Recipe) -> None:
    _one_of(f"{key}.optimiser", recipe.optimiser, OPTIMISERS)
    _one_of(f"{key}.schedule", recipe.schedule, SCHEDULES)
    for name in ("epochs", "batch"):
        _at_least(f"{key}.{name}", getattr(recipe, name), 1)
    stop, early = recipe.stop_at, isinstance(recipe.stop_at, float) and 0 < recipe.stop_at < 1
    if not (stop is None or early or (_whole(stop, 1) and stop <= recipe.epochs)):
        problem = f"must be an epoch from 1 to {recipe.epochs}, a fraction of them below 1, or null"
        raise KdrunError(f"{key}.stop_at", stop, problem)
    for name in ("lr", "gamma"):
        if not 0 < getattr(recipe, name) < math.inf:
            raise KdrunError(f"{key}.{name}", getattr(recipe, name), "must be above 0")
    for name in ("momentum", "label_smoothing"):
        if not 0 <= getattr(recipe, name) < 1:
            raise KdrunError(f"{key}.{name}", getattr(recipe, name), "must be from 0 to below 1")
    _at_least(f"{key}.weight_decay", recipe.weight_decay, 0)
    for name in ("div", "final_div"):
        _at_least(f"{key}.{name}", getattr(recipe, name), 1)
    if not 0 <= recipe.warmup <= 1:
        raise KdrunError(f"{key}.warmup", recipe.warmup, "must be between 0 and 1 (a fraction of all steps)")
    if recipe.clip is not None and not recipe.clip > 0:
        raise KdrunError(f"{key}.clip", recipe.clip, "must be above 0, or null")
    if recipe.nesterov and not (recipe.optimiser == "sgd" and recipe.momentum > 0):
        raise KdrunError(f"{key}.nesterov", "true", "needs optimiser sgd with a momentum above 0")
    if len(recipe.betas) != 2 or not all(0 <= beta < 1 for beta in recipe.betas):
        raise KdrunError(f"{key}.betas", _listed(recipe.betas), "must be two numbers from 0 to below 1")
    whole = all(_whole(m, 1) for m in recipe.milestones)
    if not whole or recipe.milestones != sorted(set(recipe.milestones)):
        raise KdrunError(
            f"{key}.milestones", _listed(recipe.milestones), "must be epochs from 1, in rising order"
        )


def _labelled_share(share: float | None) -> None:
    if share is not None and not 0 < share <= 1:
        problem = "must be above 0 and up to 1, a share of each batch, or null (images as they come)"
        raise KdrunError("recipe.labelled_share", share, problem)


def _term(key: str, term: Mapping[str, Any], packages: Collection[str]) -> None:
    _named(term["name"], f"{key}.name", packages)
    weight = Schedule.parse(term.get("weight", 1.0), f"{key}.weight")
    if min(weight.start, weight.end) < 0:
        raise KdrunError(f"{key}.weight", _shown(term["weight"]), "must not be below 0")
    if "temperature" in term:
        _above_zero(term["temperature"], f"{key}.temperature")


def _phase_one(run: Run) -> None:
    epochs, most = run.phase_one.epochs, run.recipe.student.epochs
    fraction = isinstance(epochs, float) and 0 < epochs < 1
    if not fraction and not (_whole(epochs, 0) and epochs < most):
        problem = f"must be a whole number below recipe.student.epochs={most}, or a fraction of them below 1"
        raise KdrunError("phase_one.epochs", epochs, problem)
    if run.phase_one.lr is not None:
        _above_zero(run.phase_one.lr, "phase_one.lr")
        if not epochs:
            raise KdrunError(
                "phase_one.lr", run.phase_one.lr, "there is no first phase: phase_one.epochs is 0"
            )
    if epochs and not run.phase_one.loss:
        more = "+loss@phase_one.loss.TERM=LOSS (kdrun list losses)"
        raise KdrunError("phase_one.epochs", epochs, f"there is no term in phase_one.loss: {more}")


def _momenta(run: Run) -> None:
    """Two momenta need one to begin with, from which neither goes below 0 or up to 1."""
    delta, recipe = run.momentum_delta, run.recipe.student
    if delta is None:
        return
    name = "momentum" if recipe.optimiser == "sgd" else "betas[0]"
    momentum = recipe.momentum if recipe.optimiser == "sgd" else recipe.betas[0]
    if not (delta >= 0 and momentum > 0 and momentum - delta >= 0 and momentum + delta < 1):
        problem = (
            f"must be from 0 to below {min(momentum, 1 - momentum):g}: recipe.student.{name} is {momentum:g}"
        )
        if momentum == 0:
            problem = f"there is no momentum that it could change: recipe.student.{name} is 0"
        raise KdrunError("momentum_delta", delta, problem)


def _classifiers(run: Run) -> None:
    """Only a student reads a teacher's classifier."""
    for key, model in (*named_teachers(run).items(), *(("assistant", model) for model in run.assistant)):
        if model.reuse_classifier:
            problem = "only a student can reuse the classifier of its teacher: student.reuse_classifier=true"
            raise KdrunError(f"{key}.reuse_classifier", "true", problem)


def _peer(run: Run) -> None:
    """What a peer in the teacher's place rules out."""
    if not run.peer:
        return
    two = "two that teach each other"
    if run.stages == ["teacher"]:
        problem = (
            f"method {run.method} has no teacher to train before: a peer is trained in the stage student"
        )
        raise KdrunError("stages", "[teacher]", problem)
    if run.assistant:
        raise KdrunError("assistant", run.assistant[0].name, f"there is nobody in between {two}")
    if run.generations > 1:
        raise KdrunError("generations", run.generations, f"there are no generations of {two}")
    if run.phase_one.epochs:
        raise KdrunError("phase_one.epochs", run.phase_one.epochs, f"there is no first phase for {two}")
    if run.momentum_delta is not None:
        raise KdrunError("momentum_delta", run.momentum_delta, f"{two} have one momentum each")
    if run.student.reuse_classifier:
        problem = f"neither of {two} can be read by the other's classifier"
        raise KdrunError("student.reuse_classifier", "true", problem)


def _pace(run: Run) -> None:
    _at_least("checkpoint.seconds", run.checkpoint.seconds, 0)
    if not run.checkpoint.minutes > 0:
        raise KdrunError("checkpoint.minutes", run.checkpoint.minutes, "must be above 0")


def _evaluation(evaluation: Evaluation, packages: Collection[str]) -> None:
    """Ranges, and the packages of evaluators. Whether they exist is checked when they are imported."""
    for name in evaluation.figures:
        _named(name, "evaluation.figures", packages)
    for key in ("figures", "batches"):
        values = getattr(evaluation, key)
        if len(set(values)) < len(values):
            raise KdrunError(f"evaluation.{key}", _listed(values), "must not name anything twice")
    if not all(1 <= batch <= MOST_IMAGES for batch in evaluation.batches):
        problem = f"must be batch sizes from 1 to {MOST_IMAGES}"
        raise KdrunError("evaluation.batches", _listed(evaluation.batches), problem)
    if evaluation.plots not in ("auto", True, False) or type(evaluation.plots) is int:
        raise KdrunError("evaluation.plots", evaluation.plots, "no such choice", ("auto", "true", "false"))
    if not 1 <= evaluation.samples <= MOST_SAMPLES:
        problem = f"must be a whole number from 1 to {MOST_SAMPLES}"
        raise KdrunError("evaluation.samples", evaluation.samples, problem)
    if not 0 < evaluation.seconds <= MOST_SECONDS:
        problem = f"must be above 0, and at most {MOST_SECONDS} (an hour for each batch size)"
        raise KdrunError("evaluation.seconds", evaluation.seconds, problem)


def _runtime(runtime: Runtime) -> None:
    for key, choices in (
        ("table", SWITCHES),
        ("table_dtype", TABLE_DTYPES),
        ("graph", SWITCHES),
    ):
        _one_of(f"runtime.{key}", getattr(runtime, key), choices)
    for key in ("table_gb", "ahead_gb", "cache_gb"):
        _at_least(f"runtime.{key}", getattr(runtime, key), 0)
    for key, least in (("jobs", 1), ("workers", 0)):
        value = getattr(runtime, key)
        if value != "auto" and not _whole(value, least):
            raise KdrunError(f"runtime.{key}", value, f"must be auto or a whole number from {least}")


def _one_of(key: str, value: Any, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise KdrunError(key, value, "no such choice", choices)


def _texts(key: str, values: Collection[Any]) -> None:
    """Names that are read from YAML can be anything."""
    for value in values:
        if not isinstance(value, str):
            raise KdrunError(key, as_typed(value), "a name is needed")


def _at_least(key: str, value: float, least: int) -> None:
    if not least <= value < math.inf:
        raise KdrunError(key, value, f"must be {least} or more")


def _whole(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _listed(values: Collection[Any]) -> str:
    return f"[{','.join(map(str, values))}]"


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {item}" for key, item in value.items()) + "}"
    return str(value)
