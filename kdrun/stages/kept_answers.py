"""The answers of teachers and controls to held-out images, kept beside their weights for other runs.

A file is found by the checksum of the weights, the images and what decides the last bits of a sum: machine,
versions, threads. The file has a checksum of its own; one that is damaged is written anew.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from torch import Tensor

from kdrun import __version__
from kdrun.artefacts import fingerprint, set_aside
from kdrun.errors import KdrunError
from kdrun.machine import environment
from kdrun.models.weights import read_weights, save_weights
from kdrun.plan.ground import sight
from kdrun.plan.plan import Plan
from kdrun.stages.networks import is_adapted
from kdrun.stages.saved import Saved

KINDS = ("teacher", "control")
"""Of trainings that other runs share."""

Logits = Mapping[str, Tensor]
"""(N, K) float32 by the name of the part."""


def kept_answers(
    plan: Plan, saved: Saved, weights: str, ask: Callable[[], Logits], answered: Callable[[int], object]
) -> Logits:
    """The logits of a model on the run's held-out parts: those that are kept, else those that `ask` computes.

    weights: `last` or `val_best`. answered: gets the number of images whose answers were kept. The logits are
    equal in every bit either way.
    """
    file = _file(plan, saved, weights)
    known = _read(file) if file is not None and file.is_file() else None
    if known is not None:
        answered(sum(map(len, known.values())))
        return known
    logits = ask()
    if file is not None and logits:
        with suppress(OSError):  # a folder that others may only read
            set_aside(file.parent, file.name)
            save_weights(file, logits, {"of": weights, "kdrun": __version__})
    return logits


def _read(file: Path) -> Logits | None:
    """None if the file is damaged."""
    try:
        return read_weights(file)
    except KdrunError:
        return None


def _file(plan: Plan, saved: Saved, weights: str) -> Path | None:
    """None if the answers are not kept: of a student, of weights from elsewhere, of a teacher that sees other
    images or classes than its student.
    """
    training, path = saved.training, saved.weights.get(weights)
    if saved.source not in ("trained", "cache") or training.kind not in KINDS or path is None:
        return None
    digest = saved.record.get("sha256", {}).get(path.stem)
    if digest is None or is_adapted(plan.taught_first, saved):
        return None
    data = plan.ground.data
    key: dict[str, Any] = {
        "weights": digest,
        "data": [data.fingerprint, len(data.validation.labels), len(data.test.labels), list(sight(data))],
        "kdrun": __version__,
        "machine": environment(plan.ground.machine, training.threads),
    }
    return path.with_name(f"answers-{fingerprint(key)}.safetensors")
