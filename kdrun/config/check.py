"""Ranges and choices of a whole run; each error has the full key. Data and models are checked later."""

from __future__ import annotations

import importlib.util
import math
import os
import re
import sys
from collections.abc import Collection, Mapping
from typing import Any

from kdrun.config import controls
from kdrun.config.check_dataset import check_dataset, check_pool
from kdrun.config.check_teachers import check_teachers, named_teachers
from kdrun.config.choices import (
    DEVICES,
    DIAGNOSTICS,
    LOGGERS,
    OPTIMISERS,
    PRECISIONS,
    QUANTISED,
    SCHEDULES,
    STAGES,
    STEMS,
    SWITCHES,
    TABLE_DTYPES,
    TRANSFERS,
)
from kdrun.config.ranges import (
    above_zero,
    at_least,
    listed,
    one_of,
    refuse_unlisted_name,
    shown,
    texts,
    whole,
)
from kdrun.config.reference import check_reference
from kdrun.config.schema import Evaluation, Model, Recipe, Run, Runtime
from kdrun.errors import KdrunError
from kdrun.extras import install
from kdrun.figures import as_typed
from kdrun.paths import expanded, no_folder
from kdrun.schedule import Schedule

MOST_IMAGES, MOST_SAMPLES, MOST_SECONDS = 65_536, 1_000_000, 3600
"""The largest batch, the most samples and the longest time of a latency measurement."""


def check(run: Run, shared_with_labels: bool = True) -> None:
    """Raises KdrunError for the first value that is out of range.

    shared_with_labels: whether the labels weigh 1 - alpha, so that alpha cannot be above 1.
    """
    _packages(run)
    _loggers(run.logger)
    for name in run.diagnostics:
        one_of("diagnostics", name, DIAGNOSTICS)
    _choices(run)
    _shared(run, shared_with_labels)
    check_dataset(run.dataset, run.packages)
    _own_datasets(run)
    check_pool(run)
    for role, model in (*named_teachers(run).items(), ("student", run.student)):
        _model(role, model, run.packages)
    if (replaced := run.reference.as_teacher) is not None:
        _model("reference", replaced, run.packages)
    check_teachers(run)
    check_reference(run.reference)
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
    _controls(run)
    _int8(run)
    _momenta(run)
    _classifiers(run)
    _peer(run)
    _pace(run)
    _evaluation(run.evaluation, run.packages)
    _engine(run)
    _runtime(run.runtime)


def _packages(run: Run) -> None:
    """The user's packages must be importable, also from the working folder, as with `python -m`."""
    if run.packages and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    for package in run.packages:
        if not all(part.isidentifier() for part in package.split(".")) or not _found(package.split(".")[0]):
            raise KdrunError("packages", package, "no such package in this folder or in this Python")


def _loggers(names: Collection[str]) -> None:
    """A logger that is not installed is an error now, not after hours of training."""
    for name in names:
        one_of("logger", name, LOGGERS)
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:  # without an origin: a folder of that name, as wandb leaves
            raise KdrunError("logger", name, f"is not installed: {install(name)}")


def _found(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ValueError:  # `__main__`
        return False


def _choices(run: Run) -> None:
    texts("stages", run.stages)
    if not run.stages or len(set(run.stages)) < len(run.stages) or not set(run.stages) <= set(STAGES):
        wrong = [stage for stage in run.stages if stage not in STAGES]
        problem = "no such stage" if wrong else "each stage at most once, and at least one"
        raise KdrunError("stages", wrong[0] if wrong else listed(run.stages), problem, STAGES)
    one_of("precision", run.precision, PRECISIONS)
    one_of("transfer", run.transfer, TRANSFERS)
    if run.phase_one.transfer is not None:
        one_of("phase_one.transfer", run.phase_one.transfer, TRANSFERS)
    if run.transfer_classes and run.transfer_without:
        problem = "and transfer_classes exclude each other: one names what stays, one what goes"
        raise KdrunError("transfer_without", listed(run.transfer_without), problem)
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", run.device):
        raise KdrunError("device", run.device, "no such device", DEVICES)
    if run.threads != "auto" and not whole(run.threads, 1):
        raise KdrunError("threads", run.threads, "must be auto or a whole number from 1")
    at_least("seed", run.seed, 0)
    for key in ("data_dir", "outputs_dir"):
        if not getattr(run, key).strip():
            raise KdrunError(key, "''", "a folder is needed")
        if problem := no_folder(getattr(run, key)):
            raise KdrunError(key, getattr(run, key), problem)


def _shared(run: Run, shared_with_labels: bool) -> None:
    if run.temperature is not None:
        above_zero(run.temperature, "temperature")
    if run.alpha is None:
        return
    alpha = Schedule.parse(run.alpha, "alpha")
    most = 1 if shared_with_labels else math.inf
    if not all(0 <= value <= most for value in (alpha.start, alpha.end)):
        allowed = "between 0 and 1" if shared_with_labels else "0 or more"
        raise KdrunError("alpha", shown(run.alpha), f"must be {allowed} (weight of the distillation term)")


def _own_datasets(run: Run) -> None:
    """The data sets of teachers, each under the key of its teacher."""
    for key, teacher in named_teachers(run).items():
        if teacher.dataset is not None:
            try:
                check_dataset(teacher.dataset, run.packages)
            except KdrunError as error:
                raise error.below(key) from None


def _model(role: str, model: Model, packages: Collection[str]) -> None:
    refuse_unlisted_name(model.family, f"{role}.family", packages)
    one_of(f"{role}.stem", model.stem, STEMS)
    if model.seed is not None:
        at_least(f"{role}.seed", model.seed, 0)
    if model.checkpoint is not None and not expanded(model.checkpoint).is_file():
        raise KdrunError(f"{role}.checkpoint", model.checkpoint, "no such file")
    _pretrained(role, model)
    at_least(f"{role}.projector_factor", model.projector_factor, 1)


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
    at_least("generations", run.generations, 1)
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
    one_of(f"{key}.optimiser", recipe.optimiser, OPTIMISERS)
    one_of(f"{key}.schedule", recipe.schedule, SCHEDULES)
    for name in ("epochs", "batch"):
        at_least(f"{key}.{name}", getattr(recipe, name), 1)
    stop, early = recipe.stop_at, isinstance(recipe.stop_at, float) and 0 < recipe.stop_at < 1
    if not (stop is None or early or (whole(stop, 1) and stop <= recipe.epochs)):
        problem = f"must be an epoch from 1 to {recipe.epochs}, a fraction of them below 1, or null"
        raise KdrunError(f"{key}.stop_at", stop, problem)
    for name in ("lr", "gamma"):
        if not 0 < getattr(recipe, name) < math.inf:
            raise KdrunError(f"{key}.{name}", getattr(recipe, name), "must be above 0")
    for name in ("momentum", "label_smoothing"):
        if not 0 <= getattr(recipe, name) < 1:
            raise KdrunError(f"{key}.{name}", getattr(recipe, name), "must be from 0 to below 1")
    at_least(f"{key}.weight_decay", recipe.weight_decay, 0)
    for name in ("div", "final_div"):
        at_least(f"{key}.{name}", getattr(recipe, name), 1)
    if not 0 <= recipe.warmup <= 1:
        raise KdrunError(f"{key}.warmup", recipe.warmup, "must be between 0 and 1 (a fraction of all steps)")
    if recipe.clip is not None and not recipe.clip > 0:
        raise KdrunError(f"{key}.clip", recipe.clip, "must be above 0, or null")
    if recipe.nesterov and not (recipe.optimiser == "sgd" and recipe.momentum > 0):
        raise KdrunError(f"{key}.nesterov", "true", "needs optimiser sgd with a momentum above 0")
    if len(recipe.betas) != 2 or not all(0 <= beta < 1 for beta in recipe.betas):
        raise KdrunError(f"{key}.betas", listed(recipe.betas), "must be two numbers from 0 to below 1")
    numbers = all(whole(epoch, 1) for epoch in recipe.milestones)
    if not numbers or recipe.milestones != sorted(set(recipe.milestones)):
        raise KdrunError(
            f"{key}.milestones", listed(recipe.milestones), "must be epochs from 1, in rising order"
        )


def _labelled_share(share: float | None) -> None:
    if share is not None and not 0 < share <= 1:
        problem = "must be above 0 and up to 1, a share of each batch, or null (images as they come)"
        raise KdrunError("recipe.labelled_share", share, problem)


def _term(key: str, term: Mapping[str, Any], packages: Collection[str]) -> None:
    refuse_unlisted_name(term["name"], f"{key}.name", packages)
    weight = Schedule.parse(term.get("weight", 1.0), f"{key}.weight")
    if min(weight.start, weight.end) < 0:
        raise KdrunError(f"{key}.weight", shown(term["weight"]), "must not be below 0")
    if "temperature" in term:
        above_zero(term["temperature"], f"{key}.temperature")


def _phase_one(run: Run) -> None:
    epochs, most = run.phase_one.epochs, run.recipe.student.epochs
    fraction = isinstance(epochs, float) and 0 < epochs < 1
    if not fraction and not (whole(epochs, 0) and epochs < most):
        problem = f"must be a whole number below recipe.student.epochs={most}, or a fraction of them below 1"
        raise KdrunError("phase_one.epochs", epochs, problem)
    if run.phase_one.lr is not None:
        above_zero(run.phase_one.lr, "phase_one.lr")
        if not epochs:
            raise KdrunError(
                "phase_one.lr", run.phase_one.lr, "there is no first phase: phase_one.epochs is 0"
            )
    if epochs and not run.phase_one.loss:
        more = "+loss@phase_one.loss.TERM=LOSS (kdrun list losses)"
        raise KdrunError("phase_one.epochs", epochs, f"there is no term in phase_one.loss: {more}")


def _controls(run: Run) -> None:
    settings, names = run.controls, controls.names(run.control)
    if not 0 < settings.smoothing < 1:
        raise KdrunError("controls.smoothing", settings.smoothing, "must lie between 0 and 1")
    if not 0.9 <= settings.virtual_true_class < 1:
        problem = "must be from 0.9 to below 1: a teacher that is sure of the true class"
        raise KdrunError("controls.virtual_true_class", settings.virtual_true_class, problem)
    above_zero(settings.virtual_temperature, "controls.virtual_temperature")
    if not 0 < settings.virtual_weight <= 1:
        raise KdrunError("controls.virtual_weight", settings.virtual_weight, "must be above 0 and up to 1")
    if settings.longer_epochs != "auto" and not whole(settings.longer_epochs, 1):
        raise KdrunError(
            "controls.longer_epochs", settings.longer_epochs, "must be auto or a whole number from 1"
        )
    if (
        "longer" in names
        and settings.longer_epochs != "auto"
        and settings.longer_epochs <= run.recipe.student.epochs
    ):
        problem = f"must be above recipe.student.epochs={run.recipe.student.epochs}"
        raise KdrunError("controls.longer_epochs", settings.longer_epochs, problem)
    if "self" in names and run.peer:
        problem = (
            "has no meaning here: the student learns from a peer, in whose place no trained model can be"
        )
        raise KdrunError("control", "self", problem)


def _int8(run: Run) -> None:
    settings = run.int8
    share = isinstance(settings.epochs, float) and 0 < settings.epochs < 1
    if not share and not whole(settings.epochs, 1):
        problem = "must be a whole number from 1, or a share of the student's below 1"
        raise KdrunError("int8.epochs", settings.epochs, problem)
    if settings.lr is not None:
        above_zero(settings.lr, "int8.lr")
    if settings.weight_bits not in (7, 8):
        raise KdrunError("int8.weight_bits", settings.weight_bits, "must be 7 or 8")
    if run.quantise is None:
        return
    one_of("quantise", run.quantise, QUANTISED)
    if "plain" not in controls.names(run.control):
        raise KdrunError("quantise", run.quantise, "compares student and plain control: control=true")
    if run.peer:
        problem = "needs a teacher that is trained before; here the student learns from a peer"
        raise KdrunError("quantise", run.quantise, problem)
    if run.student.reuse_classifier:
        problem = "does not know students with the teacher's classifier: student.reuse_classifier=false"
        raise KdrunError("quantise", run.quantise, problem)


def _momenta(run: Run) -> None:
    """Both momenta, the recipe's plus and minus the difference, must be from 0 to below 1."""
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
    """Raises KdrunError for settings that a peer in the teacher's place does not allow."""
    if not run.peer:
        return
    two = "two that teach each other"
    if run.teacher.dataset is not None or run.teacher.head != "auto":
        key = "teacher.head" if run.teacher.dataset is None else "teacher.dataset"
        raise KdrunError(key, None, f"there is one data set, with its classes, of {two}")
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
    at_least("checkpoint.seconds", run.checkpoint.seconds, 0)
    if not run.checkpoint.minutes > 0:
        raise KdrunError("checkpoint.minutes", run.checkpoint.minutes, "must be above 0")


def _evaluation(evaluation: Evaluation, packages: Collection[str]) -> None:
    """Ranges, and the packages of evaluators. Whether they exist is checked when they are imported."""
    for name in evaluation.figures:
        refuse_unlisted_name(name, "evaluation.figures", packages)
    for key in ("figures", "batches"):
        values = getattr(evaluation, key)
        if len(set(values)) < len(values):
            raise KdrunError(f"evaluation.{key}", listed(values), "must not name anything twice")
    if not all(1 <= batch <= MOST_IMAGES for batch in evaluation.batches):
        problem = f"must be batch sizes from 1 to {MOST_IMAGES}"
        raise KdrunError("evaluation.batches", listed(evaluation.batches), problem)
    if evaluation.plots not in ("auto", True, False) or type(evaluation.plots) is int:
        raise KdrunError("evaluation.plots", evaluation.plots, "no such choice", ("auto", "true", "false"))
    if not 1 <= evaluation.samples <= MOST_SAMPLES:
        problem = f"must be a whole number from 1 to {MOST_SAMPLES}"
        raise KdrunError("evaluation.samples", evaluation.samples, problem)
    if not 0 < evaluation.seconds <= MOST_SECONDS:
        problem = f"must be above 0, and at most {MOST_SECONDS} (an hour for each batch size)"
        raise KdrunError("evaluation.seconds", evaluation.seconds, problem)


def _engine(run: Run) -> None:
    """The name of the engine; the engine itself checks its arguments."""
    if not run.engine.get("name"):
        raise KdrunError("engine.name", None, "is missing: the file of an engine must give it")
    refuse_unlisted_name(run.engine["name"], "engine.name", run.packages)


def _runtime(runtime: Runtime) -> None:
    for key, choices in (
        ("table", SWITCHES),
        ("table_dtype", TABLE_DTYPES),
        ("graph", SWITCHES),
    ):
        one_of(f"runtime.{key}", getattr(runtime, key), choices)
    for key in ("table_gb", "ahead_gb", "cache_gb"):
        at_least(f"runtime.{key}", getattr(runtime, key), 0)
    for key, least in (("jobs", 1), ("workers", 0)):
        value = getattr(runtime, key)
        if value != "auto" and not whole(value, least):
            raise KdrunError(f"runtime.{key}", value, f"must be auto or a whole number from {least}")
