"""Models that are trained: whether they are there, their first weights, and their last."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from kdrun.artefacts import read_json
from kdrun.errors import KdrunError
from kdrun.losses.mix import Mix
from kdrun.models.weights import load_into, read_weights
from kdrun.plan.phases import Phase
from kdrun.plan.plan import Assembly, build_mix, exchanged, rebuild
from kdrun.plan.training import Training
from kdrun.training.seeds import derived

STARTED = float(os.environ.setdefault("KDRUN_STARTED", str(time.time())))
"""When the command began; `fresh=true` starts over what was finished before that, so a sweep trains each
teacher once.
"""

WEIGHTS = ("last", "val_best")


@dataclass(frozen=True)
class Trained:
    """A model whose weights are there. weights: files by name (`last`, `val_best`). record: the content of
    its mark.

    source: trained, cache, checkpoint or pretrained; peer, if it was trained along with the student.
    """

    role: str
    source: str
    weights: Mapping[str, Path]
    record: Mapping[str, Any]
    metrics: Path | None


def finished(training: Training, fresh: bool) -> dict[str, Any] | None:
    """The record of a finished training, None where it is not there or is to be made anew."""
    try:
        record: dict[str, Any] = read_json(training.mark)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, OSError) as error:
        problem = "cannot be read (damaged); fresh=true starts over"
        raise KdrunError(str(training.mark), None, problem) from error
    names = [*record["weights"], *record.get("peers", ())]
    missing = [name for name in names if not weights_file(training, name).exists()]
    if missing:  # a file that someone removed: the mark no longer holds
        return None
    return None if fresh and record["finished"] < STARTED else record


def weights_file(training: Training, name: str) -> Path:
    """Where weights of that name (`last`, `val_best`) are kept."""
    return training.folder / f"{name}.safetensors"


def initial(training: Training, assembly: Assembly, warm: bool) -> nn.Module:
    """The model as training begins: seeded weights, or those of `checkpoint` where the node names one."""
    model = rebuild(assembly, training.role).model
    if warm and training.node.checkpoint:
        role = "teacher" if training.role in ("teacher", "peer") else "student"
        load_into(
            model,
            read_weights(Path(training.node.checkpoint)),
            f"{role}.checkpoint",
            training.node.checkpoint,
        )
    return placed(model, assembly)


def placed(model: nn.Module, assembly: Assembly) -> nn.Module:
    """The model on the run's device, channels last."""
    there: nn.Module = model.to(assembly.place.device).to(memory_format=torch.channels_last)
    return there


def mix_of(training: Training, assembly: Assembly, phase: Phase) -> Mix:
    """What a training minimises in a phase, on the run's device, with adapters seeded as the training is."""
    built = exchanged(assembly.built) if training.role == "peer" else assembly.built
    mix = build_mix(phase, built, assembly.data, derived(training.seed, "adapters"))
    return mix.to(assembly.place.device)


def load_trained(assembly: Assembly, trained: Trained, which: str) -> nn.Module:
    """A trained model on the run's device, with its `last` or `val_best` weights (its only ones, if there are
    no others; a pretrained model is built with its weights).
    """
    model = rebuild(assembly, trained.role).model
    if not trained.weights:
        return placed(model, assembly)
    path = trained.weights.get(which) or next(iter(trained.weights.values()))
    load_into(model, read_weights(path), f"{trained.role}.checkpoint", str(path))
    return placed(model, assembly)


@contextmanager
def threaded(count: int) -> Iterator[None]:
    """So many threads within the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def check_weights(assembly: Assembly, role: str, path: str) -> None:
    """Raises KdrunError where a checkpoint that the configuration names does not fit its model."""
    load_into(rebuild(assembly, role).model, read_weights(Path(path)), f"{role}.checkpoint", path)
