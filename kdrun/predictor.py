"""A finished run's student or teacher as a classifier: pictures in, classes out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from kdrun.data.picture import as_pixels, centre, covering, in_channels, opened, square
from kdrun.errors import KdrunError
from kdrun.eval_mode import device_of
from kdrun.machine import exact
from kdrun.models.described import About
from kdrun.models.exported import is_exported
from kdrun.models.exported import opened as opened_export
from kdrun.paths import expanded
from kdrun.plan.kept import FILE as FILE
from kdrun.plan.kept import kept

Picture = Any
"""A Pillow picture, or the path of a file that Pillow can read."""


class Prediction(NamedTuple):
    """label: the most probable class. probability: of that class. probabilities: of every class."""

    label: str
    probability: float
    probabilities: dict[str, float]


@dataclass(frozen=True)
class Preprocess:
    """Turns a picture into the model's input: (C, H, W) float32, normalised like the training images. shape:
    (C, H, W). resize_to: of the shorter side before the centre is cut out. mean, std: for pixels from 0 to 1.
    """

    shape: tuple[int, int, int]
    resize_to: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, picture: Picture) -> Tensor:
        """The tensor of a picture. Raises KdrunError for a file that is not a picture."""
        return self.looked_at(picture)[0]

    def looked_at(self, picture: Picture) -> tuple[Tensor, str]:
        """The tensor, and how the picture was changed; empty if it was not."""
        channels, height, width = self.shape
        if channels not in (1, 3):
            problem = f"the model takes images with {channels} channels, not pictures"
            raise KdrunError("preprocess", None, problem)
        upright = _opened(picture)
        changed = in_channels(upright, channels)
        if height == width:  # like the evaluated images in `kdrun.data`
            pixels = centre(as_pixels(square(changed, self.resize_to)), width)
        else:
            pixels = as_pixels(covering(changed, (width, height)))
        mean, std = torch.tensor(self.mean).view(-1, 1, 1), torch.tensor(self.std).view(-1, 1, 1)
        tensor = torch.from_numpy(pixels.astype(np.float32)).div(255).sub(mean).div(std)
        before = f"{upright.width}x{upright.height} {_kind(upright.mode)}"
        after = f"{width}x{height} {_kind(changed.mode)}"
        return tensor, "" if before == after else f"{before} made {after}"


@dataclass(frozen=True)
class Classifier:
    """A trained model, in evaluation mode, with all that is needed to use it.

    model: images (N, C, H, W), as `preprocess` makes them, to logits (N, K). classes: in the order of the
    logits. name: of the model.
    """

    model: nn.Module
    classes: tuple[str, ...]
    preprocess: Preprocess
    name: str

    def predict(self, *pictures: Picture) -> list[Prediction]:
        """The prediction for each picture, a Pillow picture or a path. Raises KdrunError."""
        return self.predict_tensors([self.preprocess(picture) for picture in pictures])

    def predict_tensors(self, images: Sequence[Tensor], temperature: float = 1.0) -> list[Prediction]:
        """The same for preprocessed images (C, H, W); with a temperature: soft targets."""
        return [self._prediction((row / temperature).softmax(0)) for row in self.logits(images)]

    @torch.inference_mode()
    def logits(self, images: Iterable[Tensor]) -> Tensor:
        """(N, K) float32 on the CPU, for preprocessed images (C, H, W)."""
        device = device_of(self.model)
        with exact():
            rows = [self.model(image[None].to(device))[0].float().cpu() for image in images]
        return torch.stack(rows) if rows else torch.zeros(0, len(self.classes))

    def _prediction(self, shares: Tensor) -> Prediction:
        probabilities = dict(zip(self.classes, shares.tolist(), strict=True))
        best = self.classes[int(shares.argmax())]
        return Prediction(best, probabilities[best], probabilities)


def load(run: str | Path, teacher: bool = False, packages: Iterable[str] = ()) -> Classifier:
    """The student of a finished run, from its folder, from its `student.safetensors` alone, or from an
    exported file (.pt2, .onnx).

    teacher: the run's teacher instead; needs the folder. packages: your own, if the model is from one; others
    are not imported, even if a file names them. Raises KdrunError.
    """
    path = expanded(run)
    if is_exported(path):
        return _from_export(path, teacher)
    own = kept(path, "teacher" if teacher else "student")
    model = own.model(tuple(packages)).eval().requires_grad_(False)
    return Classifier(model, own.classes, _preprocess(own.about), own.node["name"])


def _from_export(file: Path, teacher: bool) -> Classifier:
    if teacher:
        raise KdrunError(str(file), None, "has only the student; name the run for its teacher")
    model, about = opened_export(file)
    return Classifier(model.eval(), tuple(about["classes"]), _preprocess(about), about["model"]["name"])


def _preprocess(about: About) -> Preprocess:
    channels, height, width = about["image_shape"]
    means = about["normalisation"]
    shorter = about.get("resize_to") or min(height, width)
    return Preprocess((channels, height, width), shorter, tuple(means["mean"]), tuple(means["std"]))


def _opened(picture: Picture) -> Any:
    """The picture, read and turned upright. Raises KdrunError."""
    path = expanded(picture) if isinstance(picture, (str, Path)) else None
    if path and path.exists() and not (path.is_file() or path.is_dir()):
        raise KdrunError(str(picture), None, "cannot be read as a picture: a pipe or a device")
    try:
        return opened(path or picture)
    except ValueError as error:
        name = path or f"a picture of mode {picture.mode}"
        raise KdrunError(str(name), None, f"cannot be read as a picture: {error}") from error
    # Pillow raises anything from OSError to SyntaxError for files that are not pictures
    except Exception as error:
        if path is None:
            raise
        problem = "is a folder; name the pictures in it" if path.is_dir() else "cannot be read as a picture"
        raise KdrunError(str(picture), None, problem if path.exists() else "no such file") from error


def _kind(mode: str) -> str:
    """The common name of a Pillow mode."""
    return {"L": "grey", "1": "black and white", "P": "palette"}.get(mode, mode)
