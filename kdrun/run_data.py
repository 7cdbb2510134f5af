"""The data set of a finished run, and its test images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from kdrun.config import quick
from kdrun.config.choices import DATASET_OPTIONS
from kdrun.config.schema import Runtime
from kdrun.data.batches import plain_batches
from kdrun.data.images import ImageSet
from kdrun.data.load import load
from kdrun.errors import KdrunError
from kdrun.lookup import is_listed
from kdrun.paths import expanded
from kdrun.plan.ground import reading
from kdrun.report.schema import Report
from kdrun.users_code import see_working_folder

CPU = torch.device("cpu")


def data_of(report: Report, packages: Sequence[str] = (), data_dir: str | None = None) -> ImageSet:
    """The data set that a report names, read and split as the run did; without images without labels.

    packages: the user's own, which may define the source. data_dir: in place of the run's. Raises KdrunError.
    """
    config = report.get("config", {})
    dataset: Mapping[str, Any] = config.get("dataset") or {}
    source = str(dataset.get("source"))
    if "." in source:
        if not is_listed(source, packages):
            package = source.partition(".")[0]
            problem = f"the data set is from a package of your own; if you trust it: --packages {package}"
            raise KdrunError(source, None, problem)
        see_working_folder()
    place = expanded(data_dir or config.get("data_dir", "data"))
    most = quick.images(config["recipe"]["student"]["batch"]) if config.get("quick") else None
    labelled = {key: value for key, value in dataset.items() if key not in DATASET_OPTIONS}
    return load(labelled, place, reading(Runtime(), CPU), most)


def batches(data: ImageSet, size: int) -> Iterator[Tensor]:
    """The test images in order, in batches (size, C, H, W); the last may be smaller."""
    left = torch.empty(0)
    for images in plain_batches(data.test, data, CPU)():
        left = torch.cat([left, images]) if len(left) else images
        while len(left) >= size:
            yield left[:size]
            left = left[size:]
    if len(left):
        yield left
