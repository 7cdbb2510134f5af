"""What a student's file says of itself: how to build the model, its classes, how images are made for it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypedDict, cast

from safetensors import SafetensorError, safe_open

from kdrun.errors import KdrunError
from kdrun.fields import wrong_fields
from kdrun.models.weights import damage

LARGEST = 10**9
"""Numbers of an image at most: a file that asks for more is none of ours."""


class Described(TypedDict):
    """A model in a student's metadata."""

    name: str
    family: str
    args: dict[str, Any]


class Means(TypedDict):
    """Of each channel, for pixels from 0 to 1."""

    mean: list[float]
    std: list[float]


class _About(TypedDict):
    model: Described
    stem: str
    classes: list[str]
    image_shape: list[int]
    normalisation: Means


class About(_About, total=False):
    """The metadata of a student's file, as far as it is needed here."""

    pretrained: bool | None
    reused: list[int] | None
    projector_factor: int | None
    resize_to: int | None


def read_about(file: Path) -> About:
    """The metadata of a student's file. Raises KdrunError for a file that has none, or is damaged."""
    try:
        with file.open("rb"), safe_open(file, framework="pt") as opened:  # Python's own says why it cannot be
            text: Mapping[str, str] = opened.metadata() or {}
        if "kdrun" not in text:
            problem = "was not written by kdrun: it does not say how to build the model"
            raise KdrunError(str(file), None, problem)
        if problem := damage(file):
            raise KdrunError(str(file), None, problem)
        about = {name: json.loads(value) for name, value in text.items() if name != "format"}
    except OSError as error:
        raise KdrunError(str(file), None, f"cannot be read ({error.strerror or error})") from error
    except (SafetensorError, ValueError, RecursionError) as error:
        raise KdrunError(str(file), None, "cannot be read: damaged, or no safetensors file") from error
    return checked(about, file)


def checked(about: Mapping[str, Any], file: Path) -> About:
    """What a file says of itself. Raises KdrunError if that is not what kdrun writes."""
    if wrong := next(_wrong(about), ""):
        raise KdrunError(str(file), None, f"its metadata is not what kdrun writes: {wrong}")
    return cast(About, about)


def _wrong(about: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with a student's metadata, a phrase each."""
    yield from wrong_fields(about, About)
    shape, means, classes = about["image_shape"], about["normalisation"], about["classes"]
    if len(shape) != 3 or min(shape) < 1 or math.prod(shape) > LARGEST:
        yield f"image_shape is {shape}"
    for name, values in (("mean", means["mean"]), ("std", means["std"])):
        if len(values) != shape[0] or not all(map(math.isfinite, values)):
            yield f"normalisation.{name} is {values}"
    if 0 in means["std"]:
        yield "normalisation.std is 0"
    if not classes:
        yield "there are no classes"
    if (about.get("resize_to") or 1) < 1 or (about.get("resize_to") or 1) ** 2 > LARGEST:
        yield f"resize_to is {about['resize_to']}"
    if about.get("reused") and len(about["reused"]) != 3:
        yield f"reused is {about['reused']}"
