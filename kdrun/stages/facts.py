"""The fields of a report that are not figures, and the fingerprint of what was evaluated."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Collection, Mapping
from typing import Any

import torch

from kdrun import __version__
from kdrun.artefacts import fingerprint
from kdrun.config.choices import UNSAID
from kdrun.config.schema import Evaluation, recorded
from kdrun.data.images import ImageSet
from kdrun.machine import Machine, environment
from kdrun.models.torchvision import weights_name
from kdrun.plan.answers import answers_plan
from kdrun.plan.plan import Plan
from kdrun.plan.training import Training
from kdrun.plan.words import latency_threads
from kdrun.progress.journal import named_rows
from kdrun.report import gradients
from kdrun.report.schema import REFERENCE
from kdrun.resources import peak_memory
from kdrun.sources import sources
from kdrun.stages.labels_read import unread
from kdrun.stages.mining import about, mined
from kdrun.stages.saved import Saved
from kdrun.stages.subject import TOGETHER, SavedModels, is_together, stands_apart

RECORDED = ("epochs", "best_epoch", "train_seconds", "waited", "companions")
"""Keys of a training's record that are in the report."""


def facts_of(plan: Plan, models: SavedModels, command: str, failed: Collection[str] = ()) -> dict[str, Any]:
    """The fields of a report that are not figures. failed: evaluators that yielded nothing."""
    ground = plan.ground
    return {
        "kdrun": __version__,
        "label": plan.student.folder.name.rpartition("-")[0],
        "fingerprint": looked_at(plan, settings(plan.run.evaluation, failed)),
        "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "command": command,
        "config": recorded(plan.run),
        "equation": plan.equation,
        "dataset": _dataset(ground.data),
        "seeds": {
            "run": plan.run.seed,
            "teacher": None if plan.student.peer else plan.teacher.seed,
            "label": plan.run.dataset["label_seed"],
            "split": plan.run.dataset["split"],
        },
        "headline": ground.headline,
        "models": _together(plan, models)
        | {name: _model(plan, saved) for name, saved in models.items()}
        | _reference(plan),
        "folders": {name: saved.metrics.parent.name for name, saved in models.items() if saved.metrics},
        "distillation": _distillation(plan, models["student"]),
        "environment": environment(ground.machine, latency_threads(plan))
        | _numerics(ground.machine)
        | {"peak_memory": peak_memory()},
    }


def _numerics(machine: Machine) -> dict[str, str]:
    """The precision of each figure, if not all were computed in fp32."""
    if machine.precision == "fp32":
        return {}
    during = f"training and the scores after each epoch: {machine.precision}"
    return {"numerics": f"{during}; figures of this report and latencies: fp32"}


def epochs_of(models: SavedModels) -> list[dict[str, Any]]:
    """The epochs of all trainings, as rows of metrics.jsonl."""
    return [row for saved in models.values() for row in _epochs(saved)]


def settings(evaluation: Evaluation, failed: Collection[str] = ()) -> dict[str, Any]:
    """The keys of `evaluation` for a fingerprint: `figures` only if they are not UNSAID.

    failed: evaluators that are left out, so that they are tried again.
    """
    keys = dataclasses.asdict(evaluation)
    names = [name for name in keys.pop("figures") if name not in failed]
    return keys if names == list(UNSAID) else keys | {"figures": names}


def looked_at(plan: Plan, evaluation: Mapping[str, Any], whole: bool = False) -> str:
    """A report's fingerprint: models, names of the classes, what was measured, the kind of device, how many
    test images there are if not all. whole: as if all were used.
    """
    key: dict[str, Any] = {
        "models": {training.name: training.fingerprint for training in plan.trainings},
        "classes": list(plan.ground.data.classes),
        "headline": plan.ground.headline,
        "evaluation": {
            **evaluation,
            "plots": evaluation["plots"] is not False,
        },  # earlier versions had no auto
        "device": plan.ground.machine.device.type,
    }
    places = {"run": plan.ground} | {each.name: each.ground for each in plan.trainings}
    less = {name: len(at.data.test.labels) for name, at in places.items() if at.data.test_of}
    if less and not whole:
        key["test"] = less
    if plan.reference is not None:
        key["reference"] = [plan.reference.identity, plan.reference.margin]
    if plan.run.diagnostics:
        key["diagnostics"] = list(plan.run.diagnostics)
    if own := sources(evaluation.get("figures", []), plan.run.packages):
        key["sources"] = own
    return fingerprint(key)


def _together(plan: Plan, models: SavedModels) -> dict[str, dict[str, Any]]:
    """Several teachers as one model of the report, if all exist and a term reads them as one."""
    first, several = plan.taught_first, plan.taught_first.several
    if not is_together(first, models):
        return {}
    assert several is not None and several.how is not None
    marks = [training.fingerprint for training in first.teachers]
    key = [marks, [list(each) for each in several.asked], list(several.how)]
    name = " + ".join(several.names)
    return {TOGETHER: {"name": name, "source": "together", "fingerprint": fingerprint(key)}}


def _reference(plan: Plan) -> dict[str, dict[str, Any]]:
    """The model that the student is to replace as a model of the report, if there is one."""
    own = plan.reference
    if own is None:
        return {}
    facts = {"source": own.source, "fingerprint": own.identity, "began_from": own.origin}
    return {REFERENCE: {"name": own.name, **facts}}


def _model(plan: Plan, saved: Saved) -> dict[str, Any]:
    training, record = saved.training, saved.record
    ground = training.ground
    own: dict[str, Any] = {}
    if ground.headline != plan.ground.headline and saved.source in ("trained", "cache"):
        own["headline"] = ground.headline
    if stands_apart(plan, training):
        own["dataset"] = _dataset(ground.data)
    taken = training.kind == "student" and training.loaded  # other weights than the trained one's
    facts = {
        "name": training.model.name,
        "source": saved.source,
        "fingerprint": fingerprint([training.fingerprint, "loaded"]) if taken else training.fingerprint,
        "began_from": _began_from(training),
    } | own
    return facts | {key: record[key] for key in RECORDED if record.get(key) not in (None, [])}


def _began_from(training: Training) -> str | None:
    """A model's initial weights: its checkpoint or the name of pretrained ones; None if they were random."""
    model = training.model
    if model.checkpoint:
        return model.checkpoint
    return weights_name(model.family, model.name, model.pretrained) if model.pretrained else None


def _dataset(data: ImageSet) -> dict[str, Any]:
    train, test = data.train.labels, data.test.labels
    labelled, known = int((train >= 0).sum()), test[test >= 0]
    return {
        "name": data.name,
        "classes": len(data.classes),
        "train": len(train),
        "labelled": labelled if labelled < len(train) else None,
        "validation": len(data.validation.labels),
        "test": len(test),
        **({} if data.test_of is None else {"test_of": data.test_of}),
        "image_shape": list(data.image_shape),
        "most_frequent": 100 * int(torch.bincount(known).max()) / len(known) if len(known) else None,
    }


def _distillation(plan: Plan, student: Saved) -> dict[str, Any]:
    run, training = plan.run, plan.student
    facts: dict[str, Any] = {
        "method": run.method,
        "terms": {name: term.get("weight", 1.0) for name, term in run.loss.items()},
        "temperature": run.temperature,
        "alpha": run.alpha,
        "gradients": gradients.summary(_epochs(student)),
        "unlabelled": _unlabelled(training),
        **unread(plan),
        "pool": about(training),
    }
    if training.teacher_needs:
        facts["teacher"] = {"plan": answers_plan(training).kind} | student.record.get("teacher", {})
    return facts


def _unlabelled(training: Training) -> int | None:
    """How many unlabelled images the student learned from, with those of the pool; None if none."""
    used = mined(training) if training.pool is not None else None
    rows = training.row_set(mined=used).rows
    return int((training.labels[rows] < 0).sum()) or None


def _epochs(saved: Saved) -> list[dict[str, Any]]:
    return named_rows(saved.metrics, saved.training.kind, saved.name) if saved.metrics else []
