"""The student as one file: its weights, and all that is needed to use them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from kdrun import __version__
from kdrun.errors import KdrunError
from kdrun.models.described import read_about
from kdrun.models.reused import Reused
from kdrun.models.weights import save_weights
from kdrun.plan.ground import Ground
from kdrun.plan.kept import FILE
from kdrun.plan.training import Training
from kdrun.stages.saved import Saved, load_model


def is_whole(folder: Path) -> bool:
    """Whether the student's file exists in a run's folder and is undamaged."""
    try:
        read_about(folder / FILE)
    except KdrunError:
        return False
    return True


def save_student(student: Saved) -> None:
    """Writes the headline's weights, with model, classes and preprocessing in the metadata."""
    model = load_model(student, student.training.ground.headline)
    save_weights(student.training.folder / FILE, model.state_dict(), about(student.training, model))


def about(training: Training, model: nn.Module) -> dict[str, Any]:
    """The metadata of a file of a model that this training made."""
    ground, described = training.ground, training.model
    data = ground.data
    return {
        "kdrun": __version__,
        "model": {"name": described.name, "family": described.family, "args": dict(described.args)},
        "stem": described.stem,
        "reused": list(model.teacher) if isinstance(model, Reused) else None,
        "projector_factor": described.projector_factor if isinstance(model, Reused) else None,
        "pretrained": bool(described.pretrained),
        "classes": list(data.classes),
        "image_shape": list(data.image_shape),
        "resize_to": _resized_to(ground),
        "input_size": training.built.image_size,
        "normalisation": {"white": data.white, "mean": list(data.mean), "std": list(data.std)},
        "preprocessing": "float(pixel) / white, minus mean, divided by std, per channel",
        "weights": ground.headline,
        "run": training.fingerprint,
    }


def _resized_to(ground: Ground) -> int:
    """The length to which the shorter side of a picture is resized before the centre is cut out."""
    return ground.data.resized_to or min(ground.data.image_shape[1:])
