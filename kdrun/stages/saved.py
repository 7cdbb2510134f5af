"""Trainings that have weights: finished ones, checkpoints, pretrained models, and peers."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kdrun.artefacts import STARTED
from kdrun.config.schema import TeacherModel
from kdrun.data.batches import calibration
from kdrun.errors import KdrunError
from kdrun.machine import exact
from kdrun.models.class_names import SHOWN, differences, moved, renamed, stated_classes
from kdrun.models.heads import exact_head
from kdrun.models.quantised import calibrated, quantised
from kdrun.models.weights import PEER, load_into, read_weights
from kdrun.paths import expanded
from kdrun.plan.training import Training
from kdrun.plan.words import Status
from kdrun.records import METRICS, Damaged, read_mark
from kdrun.training.checkpoint import read_state

CALIBRATED = 64
"""Images in a batch of the calibration for 8 bits."""

CLOCKS_APART = 60.0
"""Seconds by which the clocks of machines that share a folder may differ."""


def started() -> float:
    """When the command began. `fresh=true` starts over what was finished before that, so a sweep trains each
    teacher once.

    The command line puts the time into the environment, so all processes of a command read the same one.
    Called from Python, the command begins at the first call of this function.
    """
    return float(os.environ.setdefault(STARTED, str(time.time())))


def since_start(moment: float) -> bool:
    """Whether a moment, in seconds since 1970, is of this command: not before its start, nor in the future.
    What was written before someone set the clock back lies in the future.
    """
    return started() <= moment <= time.time() + CLOCKS_APART


@dataclass(frozen=True)
class Saved:
    """A training that has weights.

    source: trained (in this call), cache, checkpoint, pretrained or peer. weights: files by name (`last`,
    `val_best`). record: the content of its mark.
    """

    training: Training
    source: str
    weights: Mapping[str, Path]
    record: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Its name in the report: a peer takes the place of the teacher."""
        return "teacher" if self.training.kind == "peer" else self.training.name

    @property
    def metrics(self) -> Path | None:
        """The file with its epochs; None if it is loaded, or a peer."""
        return self.training.folder / METRICS if self.source in ("trained", "cache") else None


def saved(training: Training, fresh: bool = False) -> Saved | None:
    """The weights of a training; None if it is not finished.

    fresh: what was finished before the command began does not count.
    """
    if training.loaded:
        path = training.model.checkpoint
        files = {"last": expanded(path)} if path else {}
        return Saved(training, "checkpoint" if path else "pretrained", files, {})
    record = finished(training, fresh)
    if record is None:
        return None
    return Saved(
        training, "cache", {name: weights_file(training, name) for name in record["weights"]}, record
    )


def saved_peer(student: Saved) -> Saved | None:
    """The peer that was trained with a student; None for a student from a checkpoint."""
    peer = student.training.peer
    if peer is None or PEER not in student.record.get("peers", ()):
        return None
    record = {name: student.record[name] for name in ("epochs", "train_seconds")}
    return Saved(peer, "peer", {"last": weights_file(student.training, PEER)}, record)


def finished(training: Training, fresh: bool = False) -> dict[str, Any] | None:
    """The record of a finished training; None if it is not finished, or starts over."""
    try:
        record = read_mark(training.mark)
    except Damaged:  # `healed` reports it
        return None
    if record is None:
        return None
    names = [*record["weights"], *record.get("peers", ())]
    if not all(weights_file(training, name).exists() for name in names):
        return None  # someone removed a file, so the mark no longer holds
    ours = record.get("call") == started() or since_start(record["finished"])
    return dict(record) if ours or not fresh else None


def status(training: Training) -> Status:
    """How far a training is; with the run's `fresh`, nothing of before the command counts."""
    fresh = training.ground.run.fresh
    if training.loaded:
        return Status("loaded")
    if finished(training, fresh) is not None:
        return Status("cached", training.epochs)
    try:
        state = None if fresh else read_state(state_file(training), keep=True)
    except Damaged:  # `healed` reports it
        state = None
    return Status("train") if state is None else Status("resume", state["position"][0])


def weights_file(training: Training, name: str) -> Path:
    """The file of the weights of that name (`last`, `val_best`)."""
    return training.folder / f"{name}.safetensors"


def state_file(training: Training) -> Path:
    """The file of the state while it trains."""
    return training.folder / "state.pt"


def initial_model(training: Training, warm: bool = True) -> nn.Module:
    """The model before its training, on the run's device: seeded weights, or those of its checkpoint.

    warm: whether a checkpoint is read; for 8 bits, whether it begins with trained weights and their ranges.
    """
    if training.for_int8 is not None and warm:
        return quantised_model(training.for_int8.began, training.for_int8.bits)
    model = training.initial().model
    if warm and training.model.checkpoint:
        load_checkpoint(model, training)
    return on_device(model, training)


def quantised_model(began: Training, bits: int) -> nn.Module:
    """A trained model in fake quantisation, not trained for it; the ranges are those on training images.

    Before it is trained (`kdrun check`), it has its initial weights.
    """
    model = model_now(began)
    with exact():
        small = calibrated(quantised(model, began.ground.data.image_shape, bits), _images(began))
    return on_device(small, began)


def _images(training: Training) -> Iterator[Tensor]:
    device, images = training.ground.machine.device, calibration(training.ground.data)
    return (batch.to(device) for batch in torch.split(images, CALIBRATED))


def load_model(weights: Saved, which: str) -> nn.Module:
    """The model on the run's device with its `last` or `val_best` weights, or its only ones; a pretrained
    model is built with its weights.
    """
    training = weights.training
    model = training.initial().model
    if weights.weights:
        path = weights.weights.get(which) or next(iter(weights.weights.values()))
        digest = weights.record.get("sha256", {}).get(path.stem)
        load_into(model, read_weights(path, digest), f"{weights.name}.checkpoint", str(path))
    return on_device(model, training)


def model_now(training: Training) -> nn.Module:
    """The model with its trained weights; before its training with its initial ones."""
    own = saved(training, training.ground.run.fresh)
    return initial_model(training) if own is None else load_model(own, training.ground.headline)


def load_checkpoint(model: nn.Module, training: Training) -> None:
    """Puts the weights of the checkpoint that the configuration names into a model. Raises KdrunError."""
    path = str(training.model.checkpoint)
    load_into(model, read_weights(Path(path)), f"{training.section}.checkpoint", path)


def check_checkpoint(training: Training) -> None:
    """Raises KdrunError if a training's checkpoint does not fit its model, or if it is used without training
    and its file states other classes than the data set has, or these in another order. What the configuration
    declares of a teacher's classes counts more than other names in its file.
    """
    model = training.model
    if not model.checkpoint:
        return
    load_checkpoint(training.initial().model, training)
    mapped = isinstance(model, TeacherModel) and model.class_map is not None
    if training.headless or not training.loaded or mapped:
        return
    stated, here = checkpoint_classes(training), training.ground.data.classes
    problem = differences(stated, here)
    if problem and (moved(stated, here) or _undeclared(training, stated, here)):
        way = _declaration(training, stated, here)
        path = str(training.model.checkpoint)
        raise KdrunError(f"{training.section}.checkpoint", path, f"of another data set: {problem}{way}")


def _undeclared(training: Training, stated: Sequence[str], here: Sequence[str]) -> bool:
    """Whether a teacher has other classes, and its configuration does not say what they are. A student that
    is only evaluated has no key that could say it.
    """
    model = training.model
    return isinstance(model, TeacherModel) and model.classes is None and bool(renamed(stated, here))


def _declaration(training: Training, stated: Sequence[str], here: Sequence[str]) -> str:
    """The key that says how a teacher's classes relate to those of the data set."""
    model, key = training.model, training.section
    if not isinstance(model, TeacherModel):
        return ""
    if moved(stated, here):
        alone = f"{key}.classes=null " if model.classes is not None else ""
        return f". To read them by name: {alone}{key}.class_map={{}}"
    pairs = [f"{there}: {ours}" for there, ours in renamed(stated, here)]
    some = ", ".join(pairs[:SHOWN]) + ", ..." * (len(pairs) > SHOWN)
    return f". If these mean the same: '{key}.class_map={{{some}}}'"


def checkpoint_classes(training: Training) -> tuple[str, ...]:
    """The class names in the checkpoint of a training; empty if it has none."""
    path = training.model.checkpoint
    return stated_classes(expanded(path)) if path else ()


def class_note(training: Training) -> str:
    """A note if the class names in a model's checkpoint differ from those of the data set, and nothing
    declares how they relate; else empty.
    """
    model = training.model
    declared = isinstance(model, TeacherModel) and (model.classes is not None or model.class_map is not None)
    if training.headless or declared:
        return ""
    problem = differences(checkpoint_classes(training), training.ground.data.classes)
    return f"{training.section}.checkpoint: {problem}" if problem else ""


def on_device(model: nn.Module, training: Training) -> nn.Module:
    """The model on the run's device, channels last. With bf16 its head stays in float32."""
    if training.ground.machine.precision == "bf16":
        exact_head(model)
    placed: nn.Module = model.to(training.ground.machine.device).to(memory_format=torch.channels_last)
    return placed
