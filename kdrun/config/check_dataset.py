"""Ranges and choices of the keys of a data set."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from kdrun.artefacts import typed_path
from kdrun.config.choices import DATASET_KEYS, HEADLINES, RESIZES
from kdrun.config.ranges import (
    number,
    one_of,
    refuse_unlisted_class,
    refuse_unlisted_name,
    shown,
    texts,
    whole,
)
from kdrun.config.schema import Run
from kdrun.errors import KdrunError


def check_dataset(dataset: Mapping[str, Any], packages: Collection[str]) -> None:
    """Raises KdrunError for a value that is wrong for any data; the rest is checked when the data is read."""
    for key in DATASET_KEYS:
        if key not in dataset or (key in ("name", "source") and not dataset[key]):
            raise KdrunError(f"dataset.{key}", None, "is missing: every data set must give it")
    for key in ("name", "source"):
        texts(f"dataset.{key}", [dataset[key]])
    one_of("dataset.headline", dataset["headline"], HEADLINES)
    one_of("dataset.resize", dataset["resize"], RESIZES)
    for key in ("split", "label_seed"):
        if not whole(dataset[key], 0):
            raise KdrunError(f"dataset.{key}", dataset[key], "must be a whole number from 0")
    if not (dataset["train"] is None or whole(dataset["train"], 1)):
        problem = "must be a whole number from 1, or null (all that are left)"
        raise KdrunError("dataset.train", dataset["train"], problem)
    for key, least in (("validation", 0), ("test", 1)):
        value = dataset[key]
        if not (value is None or whole(value, least) or (isinstance(value, float) and 0 < value < 1)):
            problem = f"must be a whole number from {least} or a fraction below 1"
            raise KdrunError(f"dataset.{key}", value, problem)
    if not isinstance(dataset["views"], Mapping):
        problem = f"these are keys below it; dataset.views.name={dataset['views']} chooses views"
        raise KdrunError("dataset.views", dataset["views"], problem)
    _labelled(dataset["labelled"])
    _unlabelled(dataset)
    _normalisation(dataset)
    refuse_unlisted_name(dataset["source"], "dataset.source", packages)
    for part in ("train", "validation", "test"):
        refuse_unlisted_class(dataset.get(f"{part}_class"), f"dataset.{part}_class", packages)


def _labelled(labelled: Any) -> None:
    if isinstance(labelled, str):
        if not typed_path(labelled).is_file():
            problem = "no such file. A count per class, a fraction, or a file of indices, one a line"
            raise KdrunError("dataset.labelled", labelled, problem)
        return
    fraction = isinstance(labelled, float) and 0 < labelled <= 1
    if not (labelled is None or fraction or whole(labelled, 1)):
        problem = "must be a count per class from 1, a fraction above 0 and up to 1, a file, or null (all)"
        raise KdrunError("dataset.labelled", shown(labelled), problem)


def _unlabelled(dataset: Mapping[str, Any]) -> None:
    """The ranges for mining. The folder or name was looked up before."""
    confidence, most = (dataset.get(f"unlabelled_{key}") for key in ("confidence", "top_k"))
    if confidence is not None and not (number(confidence) and 0 < confidence <= 1):
        problem = "must be above 0 and up to 1, the teacher's probability of its most likely class, or null"
        raise KdrunError("dataset.unlabelled_confidence", shown(confidence), problem)
    if not (most is None or whole(most, 1)):
        problem = "must be a whole number from 1, images of each class, or null"
        raise KdrunError("dataset.unlabelled_top_k", shown(most), problem)
    if dataset.get("unlabelled") is None and (confidence is not None or most is not None):
        key = "dataset.unlabelled_top_k" if confidence is None else "dataset.unlabelled_confidence"
        raise KdrunError(
            key, most if confidence is None else confidence, "needs dataset.unlabelled=FOLDER or a data set"
        )


def check_pool(run: Run) -> None:
    """Raises KdrunError if the run cannot use the pool, or no teacher can choose from it."""
    dataset = run.dataset
    if dataset.get("unlabelled") is None:
        return
    if run.transfer == "labelled":
        raise KdrunError(
            "transfer", "labelled", "leaves out the images of dataset.unlabelled; transfer=all uses them"
        )
    mined = any(dataset.get(f"unlabelled_{key}") is not None for key in ("confidence", "top_k"))
    if mined and run.peer:
        problem = "a trained teacher chooses the images, and a peer is not trained before"
        raise KdrunError("dataset.unlabelled_confidence", dataset.get("unlabelled_confidence"), problem)


def _normalisation(dataset: Mapping[str, Any]) -> None:
    """A pixel becomes (pixel / white - mean) / std."""
    for key in ("mean", "std"):
        value = dataset[key]
        values = value if isinstance(value, (list, tuple)) else [value]
        if not values or not all(map(number, values)):
            raise KdrunError(f"dataset.{key}", value, "must be a number, or one for each channel")
        if key == "std" and min(values) <= 0:
            raise KdrunError("dataset.std", value, "must be above 0")
    if not (number(dataset["white"]) and dataset["white"] > 0):
        raise KdrunError("dataset.white", dataset["white"], "must be a number above 0")
