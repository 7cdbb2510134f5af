"""Ranges and choices of a whole run; each error has the full key. No image is read, and no model is built."""

from __future__ import annotations

import importlib.util
import math
import re
from collections.abc import Collection, Mapping
from operator import attrgetter
from typing import Any

from kdrun.config import choices, controls
from kdrun.config.check_dataset import check_datasets
from kdrun.config.check_models import check_models
from kdrun.config.ranges import (
    above_zero,
    at_least,
    auto_or_whole,
    listed,
    one_of,
    refuse_unlisted_name,
    require,
    share,
    shown,
    texts,
    whole,
)
from kdrun.config.schema import Evaluation, Recipe, Run
from kdrun.errors import KdrunError
from kdrun.extras import install
from kdrun.paths import no_folder
from kdrun.schedule import Schedule
from kdrun.users_code import is_found, see_working_folder

MOST_IMAGES, MOST_SAMPLES, MOST_SECONDS = 65_536, 1_000_000, 3600
"""The largest batch, the most samples and the longest time of a latency measurement."""

WORDS = ("precision", "transfer", "runtime.table", "runtime.table_dtype", "runtime.graph")
"""Keys whose values are words of choices.KEY_CHOICES."""

LEAST = {
    "seed": 0,
    "generations": 1,
    "checkpoint.seconds": 0,
    "runtime.table_gb": 0,
    "runtime.ahead_gb": 0,
    "runtime.cache_gb": 0,
}
"""The least number that a key can have."""

AUTO_OR_LEAST = {"threads": 1, "runtime.jobs": 1, "runtime.workers": 0, "controls.longer_epochs": 1}
"""The least whole number of a key that can also be `auto`."""


def check(run: Run, shared_with_labels: bool = True) -> None:
    """Raises KdrunError for the first value that is out of range.

    shared_with_labels: whether the labels weigh 1 - alpha, so that alpha cannot be above 1.
    """
    _check_packages(run)
    _check_loggers(run.logger)
    _check_single_keys(run)
    _check_stages(run)
    _check_shared(run, shared_with_labels)
    check_datasets(run)
    check_models(run)
    for recipe in (run.recipe.teacher, *run.recipe.teachers.values()):
        _check_recipe("recipe.teacher", recipe)
    for recipe in (run.recipe.student, *run.recipe.assistant):
        _check_recipe("recipe.student", recipe)
    labelled = run.recipe.labelled_share
    fits = labelled is None or 0 < labelled <= 1
    problem = "must be above 0 and up to 1, a share of each batch, or null (images as they come)"
    require(fits, "recipe.labelled_share", labelled, problem)
    for key, loss in (("loss", run.loss), ("phase_one.loss", run.phase_one.loss)):
        for name, term in loss.items():
            _check_term(f"{key}.{name}", term, run.packages)
    _check_phase_one(run)
    _check_controls(run)
    _check_int8(run)
    _check_momenta(run)
    _check_peer(run)
    _check_evaluation(run.evaluation, run.packages)
    require(run.engine.get("name"), "engine.name", None, "is missing: the file of an engine must give it")
    refuse_unlisted_name(run.engine["name"], "engine.name", run.packages)


def _check_packages(run: Run) -> None:
    """The user's packages must be importable, also from the working folder, as with `python -m`."""
    if run.packages:
        see_working_folder()
    for package in run.packages:
        parts = package.split(".")
        found = all(map(str.isidentifier, parts)) and is_found(parts[0])
        require(found, "packages", package, "no such package in this folder or in this Python")


def _check_loggers(names: Collection[str]) -> None:
    """A logger that is not installed is an error now, not after hours of training."""
    for name in names:
        one_of("logger", name, choices.LOGGERS)
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:  # without an origin: a folder of that name, as wandb leaves
            raise KdrunError("logger", name, f"is not installed: {install(name)}")


def _check_single_keys(run: Run) -> None:
    """Keys whose values depend on no other key."""
    for name in run.diagnostics:
        one_of("diagnostics", name, choices.DIAGNOSTICS)
    for key in WORDS:
        one_of(key, attrgetter(key)(run), choices.KEY_CHOICES[key])
    for key, least in LEAST.items():
        at_least(key, attrgetter(key)(run), least)
    for key, least in AUTO_OR_LEAST.items():
        auto_or_whole(key, attrgetter(key)(run), least)
    above_zero(run.checkpoint.minutes, "checkpoint.minutes")
    known_device = re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", run.device)
    require(known_device, "device", run.device, "no such device", choices.DEVICES)
    for key in ("data_dir", "outputs_dir"):
        folder = getattr(run, key)
        require(folder.strip(), key, "''", "a folder is needed")
        problem = no_folder(folder)
        require(not problem, key, folder, problem)


def _check_stages(run: Run) -> None:
    texts("stages", run.stages)
    wrong = [stage for stage in run.stages if stage not in choices.STAGES]
    require(not wrong, "stages", next(iter(wrong), None), "no such stage", choices.STAGES)
    once = run.stages and len(set(run.stages)) == len(run.stages)
    require(once, "stages", listed(run.stages), "each stage at most once, and at least one", choices.STAGES)


def _check_shared(run: Run, shared_with_labels: bool) -> None:
    """What terms share: their temperature, their weight, their images."""
    if run.temperature is not None:
        above_zero(run.temperature, "temperature")
    if run.alpha is not None:
        alpha = Schedule.parse(run.alpha, "alpha")
        most = 1 if shared_with_labels else math.inf
        fits = all(0 <= value <= most for value in (alpha.start, alpha.end))
        allowed = "between 0 and 1" if shared_with_labels else "0 or more"
        require(fits, "alpha", shown(run.alpha), f"must be {allowed} (weight of the distillation term)")
    both = run.transfer_classes and run.transfer_without
    problem = "and transfer_classes exclude each other: one names what stays, one what goes"
    require(not both, "transfer_without", listed(run.transfer_without), problem)


def _check_recipe(key: str, recipe: Recipe) -> None:
    one_of(f"{key}.optimiser", recipe.optimiser, choices.OPTIMISERS)
    one_of(f"{key}.schedule", recipe.schedule, choices.SCHEDULES)
    for name, least in (("epochs", 1), ("batch", 1), ("weight_decay", 0), ("div", 1), ("final_div", 1)):
        at_least(f"{key}.{name}", getattr(recipe, name), least)
    for name in ("lr", "gamma"):
        above_zero(getattr(recipe, name), f"{key}.{name}")
    for name in ("momentum", "label_smoothing"):
        value = getattr(recipe, name)
        require(0 <= value < 1, f"{key}.{name}", value, "must be from 0 to below 1")
    stop = recipe.stop_at
    fits = stop is None or share(stop) or (whole(stop, 1) and stop <= recipe.epochs)
    problem = f"must be an epoch from 1 to {recipe.epochs}, a fraction of them below 1, or null"
    require(fits, f"{key}.stop_at", stop, problem)
    problem = "must be between 0 and 1 (a fraction of all steps)"
    require(0 <= recipe.warmup <= 1, f"{key}.warmup", recipe.warmup, problem)
    fits = recipe.clip is None or recipe.clip > 0
    require(fits, f"{key}.clip", recipe.clip, "must be above 0, or null")
    fits = not recipe.nesterov or (recipe.optimiser == "sgd" and recipe.momentum > 0)
    require(fits, f"{key}.nesterov", "true", "needs optimiser sgd with a momentum above 0")
    fits = len(recipe.betas) == 2 and all(0 <= beta < 1 for beta in recipe.betas)
    require(fits, f"{key}.betas", listed(recipe.betas), "must be two numbers from 0 to below 1")
    epochs = recipe.milestones
    fits = all(whole(epoch, 1) for epoch in epochs) and epochs == sorted(set(epochs))
    require(fits, f"{key}.milestones", listed(epochs), "must be epochs from 1, in rising order")


def _check_term(key: str, term: Mapping[str, Any], packages: Collection[str]) -> None:
    refuse_unlisted_name(term["name"], f"{key}.name", packages)
    weight = Schedule.parse(term.get("weight", 1.0), f"{key}.weight")
    fits = min(weight.start, weight.end) >= 0
    require(fits, f"{key}.weight", shown(term.get("weight")), "must not be below 0")
    if "temperature" in term:
        above_zero(term["temperature"], f"{key}.temperature")


def _check_phase_one(run: Run) -> None:
    phase, most = run.phase_one, run.recipe.student.epochs
    if phase.transfer is not None:
        one_of("phase_one.transfer", phase.transfer, choices.TRANSFERS)
    fits = share(phase.epochs) or (whole(phase.epochs, 0) and phase.epochs < most)
    problem = f"must be a whole number below recipe.student.epochs={most}, or a fraction of them below 1"
    require(fits, "phase_one.epochs", phase.epochs, problem)
    if phase.lr is not None:
        above_zero(phase.lr, "phase_one.lr")
        require(phase.epochs, "phase_one.lr", phase.lr, "there is no first phase: phase_one.epochs is 0")
    problem = "there is no term in phase_one.loss: +loss@phase_one.loss.TERM=LOSS (kdrun list losses)"
    require(phase.loss or not phase.epochs, "phase_one.epochs", phase.epochs, problem)


def _check_controls(run: Run) -> None:
    settings, names, epochs = run.controls, controls.names(run.control), run.recipe.student.epochs
    between = 0 < settings.smoothing < 1
    require(between, "controls.smoothing", settings.smoothing, "must lie between 0 and 1")
    sure = settings.virtual_true_class
    problem = "must be from 0.9 to below 1: a teacher that is sure of the true class"
    require(0.9 <= sure < 1, "controls.virtual_true_class", sure, problem)
    above_zero(settings.virtual_temperature, "controls.virtual_temperature")
    weight = settings.virtual_weight
    require(0 < weight <= 1, "controls.virtual_weight", weight, "must be above 0 and up to 1")
    longer = settings.longer_epochs
    fits = "longer" not in names or longer == "auto" or longer > epochs
    require(fits, "controls.longer_epochs", longer, f"must be above recipe.student.epochs={epochs}")
    problem = "has no meaning here: the student learns from a peer, in whose place no trained model can be"
    require(not ("self" in names and run.peer), "control", "self", problem)


def _check_int8(run: Run) -> None:
    settings, value = run.int8, run.quantise
    fits = share(settings.epochs) or whole(settings.epochs, 1)
    problem = "must be a whole number from 1, or a share of the student's below 1"
    require(fits, "int8.epochs", settings.epochs, problem)
    if settings.lr is not None:
        above_zero(settings.lr, "int8.lr")
    require(settings.weight_bits in (7, 8), "int8.weight_bits", settings.weight_bits, "must be 7 or 8")
    if value is None:
        return
    one_of("quantise", value, choices.QUANTISED)
    compared = "plain" in controls.names(run.control)
    require(compared, "quantise", value, "compares student and plain control: control=true")
    problem = "needs a teacher that is trained before; here the student learns from a peer"
    require(not run.peer, "quantise", value, problem)
    problem = "does not know students with the teacher's classifier: student.reuse_classifier=false"
    require(not run.student.reuse_classifier, "quantise", value, problem)


def _check_momenta(run: Run) -> None:
    """Both momenta, the recipe's plus and minus the difference, must be from 0 to below 1."""
    delta, recipe = run.momentum_delta, run.recipe.student
    if delta is None:
        return
    name = "momentum" if recipe.optimiser == "sgd" else "betas[0]"
    momentum = recipe.momentum if recipe.optimiser == "sgd" else recipe.betas[0]
    problem = f"there is no momentum that it could change: recipe.student.{name} is 0"
    require(momentum > 0, "momentum_delta", delta, problem)
    most = min(momentum, 1 - momentum)
    problem = f"must be from 0 to below {most:g}: recipe.student.{name} is {momentum:g}"
    require(0 <= delta <= momentum and momentum + delta < 1, "momentum_delta", delta, problem)


def _check_peer(run: Run) -> None:
    """Raises KdrunError for settings that a peer in the teacher's place does not allow."""
    if not run.peer:
        return
    two = "two that teach each other"
    problem = f"there is one data set, with its classes, of {two}"
    require(run.teacher.dataset is None, "teacher.dataset", None, problem)
    require(run.teacher.head == "auto", "teacher.head", None, problem)
    problem = f"method {run.method} has no teacher to train before: a peer is trained in the stage student"
    require(run.stages != ["teacher"], "stages", "[teacher]", problem)
    between = [model.name for model in run.assistant]
    require(not between, "assistant", next(iter(between), None), f"there is nobody in between {two}")
    require(run.generations == 1, "generations", run.generations, f"there are no generations of {two}")
    epochs, delta = run.phase_one.epochs, run.momentum_delta
    require(not epochs, "phase_one.epochs", epochs, f"there is no first phase for {two}")
    require(delta is None, "momentum_delta", delta, f"{two} have one momentum each")
    problem = f"neither of {two} can be read by the other's classifier"
    require(not run.student.reuse_classifier, "student.reuse_classifier", "true", problem)


def _check_evaluation(evaluation: Evaluation, packages: Collection[str]) -> None:
    """Ranges, and the packages of evaluators. Whether they exist is checked when they are imported."""
    for name in evaluation.figures:
        refuse_unlisted_name(name, "evaluation.figures", packages)
    for key in ("figures", "batches"):
        values = getattr(evaluation, key)
        once = len(set(values)) == len(values)
        require(once, f"evaluation.{key}", listed(values), "must not name anything twice")
    fits = all(1 <= batch <= MOST_IMAGES for batch in evaluation.batches)
    problem = f"must be batch sizes from 1 to {MOST_IMAGES}"
    require(fits, "evaluation.batches", listed(evaluation.batches), problem)
    known = evaluation.plots == "auto" or isinstance(evaluation.plots, bool)
    require(known, "evaluation.plots", evaluation.plots, "no such choice", ("auto", "true", "false"))
    fits = 1 <= evaluation.samples <= MOST_SAMPLES
    problem = f"must be a whole number from 1 to {MOST_SAMPLES}"
    require(fits, "evaluation.samples", evaluation.samples, problem)
    fits = 0 < evaluation.seconds <= MOST_SECONDS
    problem = f"must be above 0, and at most {MOST_SECONDS} (an hour for each batch size)"
    require(fits, "evaluation.seconds", evaluation.seconds, problem)
