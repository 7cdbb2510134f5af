"""Chooses the unlabelled images that a student learns from: those on which its teacher is confident."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kdrun.artefacts import read_json, write_json
from kdrun.data.batches import plain_batches
from kdrun.data.images import Part, Pool
from kdrun.errors import KdrunError
from kdrun.evaluation.accuracy import logits_of
from kdrun.figures import listed, plural
from kdrun.plan.plan import Plan
from kdrun.plan.training import Training
from kdrun.stages.saved import saved
from kdrun.stages.subject import ensemble_of, network_of
from kdrun.types import UNLABELLED

NAME = "unlabelled.json"
"""In the student's folder: the images of `dataset.unlabelled` that were left out, and those that are used."""


def mined(training: Training) -> Tensor | None:
    """(M,) int64, the images of the pool that a student uses; None without a pool.

    They are chosen once and written down, so that a continued training has the same ones. Raises KdrunError
    if the teacher is confident on no image, or if there is no teacher.
    """
    pool, file = training.pool, training.folder / NAME
    if pool is None:
        return None
    used = _written(file, pool)
    if used is None:
        confidence, top_k = (
            training.ground.run.dataset.get(f"unlabelled_{k}") for k in ("confidence", "top_k")
        )
        used = torch.arange(len(pool.images))
        if confidence is not None or top_k is not None:
            used = chosen(_probabilities(training, pool), confidence or 0.0, top_k)
        if not len(used):
            problem = "the teacher is not so confident on any image; a lower number, or null, uses more"
            raise KdrunError("dataset.unlabelled_confidence", confidence, problem)
        write_json(file, _record(pool) | {"used": used.tolist()})
    return used


def chosen(probabilities: Tensor, confidence: float, top_k: int | None) -> Tensor:
    """(M,) int64, rising: the images whose largest probability is at least `confidence`. Of these each class
    keeps the `top_k` with the largest (the first of equals; None: all). probabilities: (P, K).
    """
    sure, classes = probabilities.max(dim=1)
    kept = sure >= confidence
    if top_k is not None:
        order = torch.sort(sure, descending=True, stable=True).indices
        order = order[kept[order]]
        for number in range(probabilities.shape[1]):
            kept[order[classes[order] == number][top_k:]] = False
    return torch.nonzero(kept).flatten()


def about(training: Training) -> dict[str, Any] | None:
    """For the report: the pool's source, and which images are used or left out; None without a pool."""
    pool = training.pool
    used = None if pool is None else _written(training.folder / NAME, pool)
    if pool is None or used is None:
        return None
    return {**_record(pool), "used": len(used)}


def pool_notes(plan: Plan) -> Iterator[str]:
    """Notes on the images that are left out of the pool, with the first three names."""
    pool = plan.student.pool
    if pool is None:
        return
    if pool.left_out:
        near, named = plural(len(pool.left_out), "near-duplicate"), listed(pool.left_out, 3)
        yield f"{near} of validation or test images left out of {pool.source}: {named}"
    if pool.repeated:
        yield f"{plural(pool.repeated, 'image')} of {pool.source} left out: they are there already"


def _record(pool: Pool) -> dict[str, Any]:
    return {
        "source": pool.source,
        "fingerprint": pool.fingerprint,
        "images": len(pool.images),
        "left_out": list(pool.left_out),
        "repeated": pool.repeated,
    }


def _written(file: Path, pool: Pool) -> Tensor | None:
    try:
        record = read_json(file)
    except (OSError, ValueError):
        return None
    if not isinstance(record, dict) or record.get("fingerprint") != pool.fingerprint:
        return None
    return torch.tensor(record["used"], dtype=torch.int64)


def _probabilities(training: Training, pool: Pool) -> Tensor:
    """(P, K) probabilities of the teacher, or of several as one, at temperature 1, without augmentation."""
    ground, weights = training.ground, [saved(teacher) for teacher in training.teachers]
    networks = {own.name: network_of(training, own) for own in weights if own is not None}
    if len(networks) < max(1, len(training.teachers)):
        problem = "a trained teacher chooses the images, but no term of the student reads one"
        raise KdrunError("dataset.unlabelled", pool.source, problem)
    first, *others = networks.values()
    model = ensemble_of(training, networks) if others else first
    assert model is not None, "refused when the run was planned"
    part = Part(pool.images, torch.full((len(pool.images),), UNLABELLED))
    batches = plain_batches(part, ground.data, ground.machine.device)
    return logits_of(model, batches()).float().softmax(1)
