"""A model of a finished run, from the files that the run has left: its description, then its weights."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from kdrun.config.choices import DATASET_OPTIONS
from kdrun.errors import KdrunError
from kdrun.fields import wrong_fields
from kdrun.lookup import is_listed
from kdrun.models.build import build
from kdrun.models.described import About, Described, read_about
from kdrun.models.reused import reused
from kdrun.models.weights import PEER, load_into, read_weights
from kdrun.records import PLAN, read_mark, read_planned
from kdrun.report.read import NAME, read
from kdrun.report.schema import Report
from kdrun.users_code import see_working_folder

FILE = "student.safetensors"

OF_TRAINING = (
    *("train", "validation", "test", "split", "labelled", "label_seed", "views", "headline", "recipe"),
    *DATASET_OPTIONS,
)
"""Keys of a data set that say which of its images are used for what."""

KEPT = ("student", "teacher", "control")
"""The models of a run that can be had again."""


class ReportedModel(Described):
    """A model in a report's configuration."""

    stem: str
    checkpoint: str | None


class KeptModel(NamedTuple):
    """A model of a finished run. role: one of KEPT. node: how to build it. about: what the student's file
    says of classes and images, which all models of the run share. sha256: what the file of its weights must
    have. folder: of the run.
    """

    role: str
    node: Mapping[str, Any]
    about: About
    weights: Path
    sha256: str | None
    folder: Path

    @property
    def classes(self) -> tuple[str, ...]:
        """In the order of its outputs."""
        return tuple(self.about["classes"])

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of the images that it takes: (C, H, W)."""
        channels, height, width = self.about["image_shape"]
        return channels, height, width

    def model(self, packages: tuple[str, ...] = ()) -> nn.Module:
        """The model with its weights. packages: of the user's own, from which it may be."""
        classes = len(self.classes)
        model = _built(self.node, classes, self.shape, packages)
        if (maps := self.about.get("reused")) and self.role == "student":
            channels, height, width = maps
            factor = self.about.get("projector_factor") or 2
            model = reused(model, self.shape, (channels, height, width), classes, 0, factor)
        load_into(model, read_weights(self.weights, self.sha256), "run", str(self.weights))
        return model


def kept(path: Path, role: str = "student") -> KeptModel:
    """A model of the run in a folder, or of its student's file. Raises KdrunError if it is not there.

    role: one of KEPT; others than the student need the folder.
    """
    file = path if path.is_file() else path / FILE
    if not file.is_file():
        folder = file.parent if file.name == FILE else file
        problem = f"no finished student in it ({FILE})" if folder.is_dir() else "no such run"
        raise KdrunError(str(folder), None, problem)
    about = read_about(file)
    if role == "student":
        own = {**about["model"], "stem": about["stem"], "pretrained": about.get("pretrained")}
        return KeptModel(role, own, about, file, None, file.parent)
    node, weights, sha256 = _beside(file, role)
    return KeptModel(role, node, about, weights, sha256, file.parent)


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
    if "." in family:
        see_working_folder()
    if "." in family and importlib.util.find_spec(family.split(".")[0]) is None:
        raise KdrunError(family, None, "the model's module is not in this folder or in this Python")
    stem = "imagenet" if node.get("pretrained") and node["stem"] == "auto" else node["stem"]
    plain = {"name": node["name"], "family": family, "args": node["args"], "stem": stem}
    return build(plain, classes, shape, "auto", 0).model


def _beside(file: Path, role: str) -> tuple[Mapping[str, Any], Path, str | None]:
    """The node, the weights and their checksum of a run's teacher or control. Raises KdrunError if they are
    not there.
    """
    folder = file.parent
    if not (folder / NAME).is_file():
        raise KdrunError(str(file), None, f"the {role} is found by the run's folder, with its report.json")
    report = read(folder)
    if role == "teacher" and (problem := _unloadable(report.get("config", {}))):
        raise KdrunError(str(folder), None, problem)
    described = "teacher" if role == "teacher" else "student"
    node: Mapping[str, Any] = report.get("config", {}).get(described) or {}
    if wrong := next(wrong_fields(node, ReportedModel), ""):
        raise KdrunError(str(folder / NAME), None, f"does not describe the {described}: {wrong}")
    peer = folder / f"{PEER}.safetensors"
    if role == "teacher" and peer.is_file():
        return node, peer, _digest(folder / "student.json", PEER)
    if role == "teacher" and node["checkpoint"]:
        return node, Path(node["checkpoint"]), None
    place = _folder_of(role, folder, report)
    if place is None:
        raise KdrunError(str(folder), None, f"its {role} is not kept (any more)")
    shown = report["models"].get(role, {}).get("headline", report["headline"])
    name = shown if (place / f"{shown}.safetensors").is_file() else "last"
    return node, place / f"{name}.safetensors", _digest(place / "model.json", name)


def _unloadable(config: Mapping[str, Any]) -> str:
    """Why a run's teacher cannot be loaded: there are several, or it has other classes or images than its
    student; else empty.
    """
    if names := list(config.get("teachers") or {}):
        return f"has several teachers ({', '.join(names)}); one can be loaded only"
    teacher = config.get("teacher") or {}
    if teacher.get("head") == "none":
        return "its teacher has no classes, so it answers nothing"
    own, ours = teacher.get("dataset"), config.get("dataset") or {}
    others = ["images"] if own and _as_seen(own) != _as_seen(ours) else []
    others += [key for key in ("classes", "class_map", "normalisation") if teacher.get(key) is not None]
    return f"its teacher has {others[0]} of its own, and cannot be loaded here" if others else ""


def _as_seen(dataset: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of a data set from which its classes and the pixels of an image follow."""
    return {key: value for key, value in dataset.items() if key not in OF_TRAINING}


def _digest(mark: Path, name: str) -> str | None:
    record = read_mark(mark)
    return record.get("sha256", {}).get(name) if record else None


def _folder_of(role: str, run: Path, report: Report) -> Path | None:
    """The folder of the run's teacher or control, from its plan, or from its report if an earlier version
    wrote no plan; None if it is gone.
    """
    plan = read_planned(run / PLAN)
    trainings = plan["trainings"] if plan else []
    folders = [each["folder"] for each in trainings if each["name"] == role]
    folders += [report.get("folders", {}).get(role, "")] if plan is None else []
    places = (run.resolve().parent.parent / "models" / Path(folder).name for folder in folders if folder)
    return next((place for place in places if (place / "last.safetensors").is_file()), None)
