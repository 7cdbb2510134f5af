"""A finished run's student, or its teacher, for use: pictures in, classes out."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from kdrun.config.choices import DATASET_OPTIONS
from kdrun.data.picture import as_pixels, centre, covering, in_channels, opened, square
from kdrun.errors import KdrunError
from kdrun.fields import wrong_fields
from kdrun.lookup import is_listed
from kdrun.machine import exact
from kdrun.models.build import build
from kdrun.models.described import About, Described, read_about
from kdrun.models.exported import is_exported
from kdrun.models.exported import opened as opened_export
from kdrun.models.reused import reused
from kdrun.models.weights import PEER, load_into, read_weights
from kdrun.records import PLAN, read_mark, read_planned
from kdrun.report.read import NAME, read
from kdrun.report.schema import Report

FILE = "student.safetensors"

OF_TRAINING = (
    *("train", "validation", "test", "split", "labelled", "label_seed", "views", "headline", "recipe"),
    *DATASET_OPTIONS,
)
"""Keys of a data set that say which of its images are used for what."""

Picture = Any
"""A Pillow picture, or the path of a file that Pillow can read."""


class Node(Described):
    """A model in a report's configuration."""

    stem: str
    checkpoint: str | None


class Prediction(NamedTuple):
    """label: the most likely class. probability: what the model gives it. probabilities: of every class."""

    label: str
    probability: float
    probabilities: dict[str, float]


@dataclass(frozen=True)
class Preprocess:
    """From a picture to what the model sees: (C, H, W) float32, normalised as the training images were.

    shape: (C, H, W). resize_to: the length to which the shorter side is resized before the centre is cut out.
    mean, std: of each channel, for pixels from 0 to 1.
    """

    shape: tuple[int, int, int]
    resize_to: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, picture: Picture) -> Tensor:
        """Raises KdrunError for a file that is no picture."""
        return self.looked_at(picture)[0]

    def looked_at(self, picture: Picture) -> tuple[Tensor, str]:
        """The tensor, and how the picture was changed; empty if it was not."""
        channels, height, width = self.shape
        if channels not in (1, 3):
            problem = f"the model sees images of {channels} channels, no pictures"
            raise KdrunError("preprocess", None, problem)
        upright = _opened(picture)
        changed = in_channels(upright, channels)
        if height == width:  # as `kdrun.data` makes the images that were evaluated
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
        """What the model says of each picture, a Pillow picture or a path. Raises KdrunError."""
        return self.predict_tensors([self.preprocess(picture) for picture in pictures])

    def predict_tensors(self, images: Sequence[Tensor], temperature: float = 1.0) -> list[Prediction]:
        """The same of images that are preprocessed, (C, H, W) each; at a temperature: soft targets."""
        return [self._prediction((row / temperature).softmax(0)) for row in self.logits(images)]

    @torch.inference_mode()
    def logits(self, images: Iterable[Tensor]) -> Tensor:
        """(N, K) float32 on the CPU, of images (C, H, W) that are preprocessed."""
        device = next((tensor.device for tensor in self.model.parameters()), torch.device("cpu"))
        with exact():
            rows = [self.model(image[None].to(device))[0].float().cpu() for image in images]
        return torch.stack(rows) if rows else torch.zeros(0, len(self.classes))

    def _prediction(self, shares: Tensor) -> Prediction:
        probabilities = dict(zip(self.classes, shares.tolist(), strict=True))
        best = self.classes[int(shares.argmax())]
        return Prediction(best, probabilities[best], probabilities)


def load(run: str | Path, teacher: bool = False, packages: Iterable[str] = ()) -> Classifier:
    """The student of a finished run, from its folder, from its `student.safetensors` alone, or from what
    `kdrun export` made of it (.pt2, .onnx).

    teacher: the run's teacher instead; needs the folder. packages: of your own, if the model is from one:
    nothing is imported because a file says so. Raises KdrunError.
    """
    path = Path(run).expanduser()
    if is_exported(path):
        return _from_export(path, teacher)
    file = path if path.is_file() else path / FILE
    if not file.is_file():
        folder = file.parent if file.name == FILE else file
        problem = f"no finished student in it ({FILE})" if folder.is_dir() else "no such run"
        raise KdrunError(str(folder), None, problem)
    about = read_about(file)
    preprocess, classes = _preprocess(about), tuple(about["classes"])
    weights, digest = file, None
    node: Mapping[str, Any] = {**about["model"], "stem": about["stem"], "pretrained": about.get("pretrained")}
    if teacher:
        node, weights, digest = _teacher(file)
    model = _built(node, len(classes), preprocess.shape, tuple(packages))
    if (maps := about.get("reused")) and not teacher:
        channels, height, width = maps
        model = reused(
            model,
            preprocess.shape,
            (channels, height, width),
            len(classes),
            0,
            about.get("projector_factor") or 2,
        )
    load_into(model, read_weights(weights, digest), "run", str(weights))
    return Classifier(model.eval().requires_grad_(False), classes, preprocess, node["name"])


def _from_export(file: Path, teacher: bool) -> Classifier:
    if teacher:
        raise KdrunError(str(file), None, "holds the student alone; name the run for its teacher")
    model, about = opened_export(file)
    return Classifier(model.eval(), tuple(about["classes"]), _preprocess(about), about["model"]["name"])


def _preprocess(about: About) -> Preprocess:
    channels, height, width = about["image_shape"]
    means = about["normalisation"]
    shorter = about.get("resize_to") or min(height, width)
    return Preprocess((channels, height, width), shorter, tuple(means["mean"]), tuple(means["std"]))


def _built(
    node: Mapping[str, Any], classes: int, shape: tuple[int, int, int], packages: tuple[str, ...]
) -> nn.Module:
    """The model without its weights. A user's module is imported only from packages that the caller names."""
    family = str(node["family"])
    if "." in family and not is_listed(family, packages):
        package = family.partition(".")[0]
        problem = (
            "the model is from a package of your own, which you name if you trust it: "
            f"kdrun predict ... --packages {package}, or kdrun.load(run, packages=['{package}'])"
        )
        raise KdrunError(family, None, problem)
    if "." in family and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    if "." in family and importlib.util.find_spec(family.split(".")[0]) is None:
        raise KdrunError(family, None, "the model's module is not in this folder or in this Python")
    stem = "imagenet" if node.get("pretrained") and node["stem"] == "auto" else node["stem"]
    plain = {"name": node["name"], "family": family, "args": node["args"], "stem": stem}
    return build(plain, classes, shape, "auto", 0).model


def _teacher(file: Path) -> tuple[Mapping[str, Any], Path, str | None]:
    """The node, the weights and their checksum of a run's teacher. Raises KdrunError if they are not
    there.
    """
    folder = file.parent
    if not (folder / NAME).is_file():
        raise KdrunError(str(file), None, "the teacher is found by the run's folder, with its report.json")
    report = read(folder)
    _refuse_others(folder, report.get("config", {}))
    node: Mapping[str, Any] = report.get("config", {}).get("teacher") or {}
    if wrong := next(wrong_fields(node, Node), ""):
        raise KdrunError(str(folder / NAME), None, f"does not describe the teacher: {wrong}")
    peer = folder / f"{PEER}.safetensors"
    if peer.is_file():
        return node, peer, _digest(folder / "student.json", PEER)
    if node["checkpoint"]:
        return node, Path(node["checkpoint"]), None
    kept = _teacher_folder(folder, report)
    if kept is None:
        raise KdrunError(str(folder), None, "its teacher is not kept (any more)")
    shown = report["models"].get("teacher", {}).get("headline", report["headline"])
    name = shown if (kept / f"{shown}.safetensors").is_file() else "last"
    return node, kept / f"{name}.safetensors", _digest(kept / "model.json", name)


def _refuse_others(folder: Path, config: Mapping[str, Any]) -> None:
    """Raises KdrunError for several teachers, and for one with other classes or images than its student's."""
    if names := list(config.get("teachers") or {}):
        raise KdrunError(
            str(folder), None, f"has several teachers ({', '.join(names)}); one can be loaded only"
        )
    teacher = config.get("teacher") or {}
    if teacher.get("head") == "none":
        raise KdrunError(str(folder), None, "its teacher has no classes, so it answers nothing")
    own, ours = teacher.get("dataset"), config.get("dataset") or {}
    if own and _as_seen(own) != _as_seen(ours):
        raise KdrunError(str(folder), None, "its teacher has images of its own, and cannot be loaded here")
    for key in ("classes", "class_map", "normalisation"):
        if teacher.get(key) is not None:
            raise KdrunError(
                str(folder), None, f"its teacher has {key} of its own, and cannot be loaded here"
            )


def _as_seen(dataset: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of a data set from which its classes and the pixels of an image follow."""
    return {key: value for key, value in dataset.items() if key not in OF_TRAINING}


def _digest(mark: Path, name: str) -> str | None:
    record = read_mark(mark)
    return record.get("sha256", {}).get(name) if record else None


def _teacher_folder(run: Path, report: Report) -> Path | None:
    """The folder of the run's teacher, from its plan, or from its report if an earlier version wrote no plan;
    None if it is gone.
    """
    plan = read_planned(run / PLAN)
    trainings = plan["trainings"] if plan else []
    folders = [each["folder"] for each in trainings if each["name"] == "teacher"]
    folders += [report.get("folders", {}).get("teacher", "")] if plan is None else []
    places = (run.resolve().parent.parent / "models" / Path(folder).name for folder in folders if folder)
    return next((place for place in places if (place / "last.safetensors").is_file()), None)


def _opened(picture: Picture) -> Any:
    """The picture, read and turned upright. Raises KdrunError."""
    path = Path(picture).expanduser() if isinstance(picture, (str, Path)) else None
    try:
        return opened(path or picture)
    except ValueError as error:
        name = path or f"a picture of mode {picture.mode}"
        raise KdrunError(str(name), None, f"cannot be read as a picture: {error}") from error
    # Pillow raises anything from OSError to SyntaxError for files that are no pictures
    except Exception as error:
        if path is None:
            raise
        problem = "is a folder; name the pictures in it" if path.is_dir() else "cannot be read as a picture"
        raise KdrunError(str(picture), None, problem if path.exists() else "no such file") from error


def _kind(mode: str) -> str:
    """The common name of a Pillow mode."""
    return {"L": "grey", "1": "black and white", "P": "palette"}.get(mode, mode)
