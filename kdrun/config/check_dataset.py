"""Ranges and choices of the keys of a data set."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from kdrun.config.check_models import named_teachers
from kdrun.config.choices import DATASET_KEYS, HEADLINES, RESIZES
from kdrun.config.ranges import (
    number,
    one_of,
    refuse_unlisted_class,
    refuse_unlisted_name,
    require,
    share,
    shown,
    texts,
    whole,
)
from kdrun.config.schema import Run
from kdrun.errors import KdrunError
from kdrun.paths import expanded


def check_datasets(run: Run) -> None:
    """Raises KdrunError for a value that is wrong for any data; the rest is checked when the data is read."""
    _check(run.dataset, run.packages)
    _check_pool(run)
    for key, teacher in named_teachers(run).items():
        if teacher.dataset is not None:
            try:
                _check(teacher.dataset, run.packages)
            except KdrunError as error:
                raise error.below(key) from None


def _check(dataset: Mapping[str, Any], packages: Collection[str]) -> None:
    for key in DATASET_KEYS:
        missing = key not in dataset or (key in ("name", "source") and not dataset[key])
        require(not missing, f"dataset.{key}", None, "is missing: every data set must give it")
    for key in ("name", "source"):
        texts(f"dataset.{key}", [dataset[key]])
    one_of("dataset.headline", dataset["headline"], HEADLINES)
    one_of("dataset.resize", dataset["resize"], RESIZES)
    for key in ("split", "label_seed"):
        require(whole(dataset[key], 0), f"dataset.{key}", dataset[key], "must be a whole number from 0")
    fits = dataset["train"] is None or whole(dataset["train"], 1)
    problem = "must be a whole number from 1, or null (all that are left)"
    require(fits, "dataset.train", dataset["train"], problem)
    for key, least in (("validation", 0), ("test", 1)):
        value = dataset[key]
        fits = value is None or whole(value, least) or share(value)
        problem = f"must be a whole number from {least} or a fraction below 1"
        require(fits, f"dataset.{key}", value, problem)
    problem = f"these are keys below it; dataset.views.name={dataset['views']} chooses views"
    require(isinstance(dataset["views"], Mapping), "dataset.views", dataset["views"], problem)
    _check_labelled(dataset["labelled"])
    _check_mining(dataset)
    _check_normalisation(dataset)
    refuse_unlisted_name(dataset["source"], "dataset.source", packages)
    for part in ("train", "validation", "test"):
        refuse_unlisted_class(dataset.get(f"{part}_class"), f"dataset.{part}_class", packages)


def _check_labelled(labelled: Any) -> None:
    if isinstance(labelled, str):
        problem = "no such file. A count per class, a fraction, or a file of indices, one a line"
        require(expanded(labelled).is_file(), "dataset.labelled", labelled, problem)
        return
    fraction = isinstance(labelled, float) and 0 < labelled <= 1
    problem = "must be a count per class from 1, a fraction above 0 and up to 1, a file, or null (all)"
    require(labelled is None or fraction or whole(labelled, 1), "dataset.labelled", shown(labelled), problem)


def _check_mining(dataset: Mapping[str, Any]) -> None:
    """The folder or name of the images was looked up before."""
    confidence, most = (dataset.get(f"unlabelled_{key}") for key in ("confidence", "top_k"))
    fits = confidence is None or (number(confidence) and 0 < confidence <= 1)
    problem = "must be above 0 and up to 1, the teacher's probability of its most likely class, or null"
    require(fits, "dataset.unlabelled_confidence", shown(confidence), problem)
    problem = "must be a whole number from 1, images of each class, or null"
    require(most is None or whole(most, 1), "dataset.unlabelled_top_k", shown(most), problem)
    if dataset.get("unlabelled") is None:
        problem = "needs dataset.unlabelled=FOLDER or a data set"
        require(confidence is None, "dataset.unlabelled_confidence", confidence, problem)
        require(most is None, "dataset.unlabelled_top_k", most, problem)


def _check_pool(run: Run) -> None:
    """Raises KdrunError if the run cannot use the pool, or no teacher can choose from it."""
    dataset = run.dataset
    if dataset.get("unlabelled") is None:
        return
    problem = "leaves out the images of dataset.unlabelled; transfer=all uses them"
    require(run.transfer != "labelled", "transfer", run.transfer, problem)
    mined = any(dataset.get(f"unlabelled_{key}") is not None for key in ("confidence", "top_k"))
    problem = "a trained teacher chooses the images, and a peer is not trained before"
    confidence = dataset.get("unlabelled_confidence")
    require(not (mined and run.peer), "dataset.unlabelled_confidence", confidence, problem)


def _check_normalisation(dataset: Mapping[str, Any]) -> None:
    """A pixel becomes (pixel / white - mean) / std."""
    for key in ("mean", "std"):
        value = dataset[key]
        values = value if isinstance(value, (list, tuple)) else [value]
        fits = values and all(map(number, values))
        require(fits, f"dataset.{key}", value, "must be a number, or one for each channel")
        require(key == "mean" or min(values) > 0, f"dataset.{key}", value, "must be above 0")
    white = dataset["white"]
    require(number(white) and white > 0, "dataset.white", white, "must be a number above 0")
