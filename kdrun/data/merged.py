"""Several data sets as one, with the union of their classes by name: to merge what their teachers know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from kdrun.data.images import Part, Raw
from kdrun.data.lazy import in_memory
from kdrun.data.load import checked, read_raw
from kdrun.data.picture import centre
from kdrun.data.split import split
from kdrun.errors import KdrunError
from kdrun.types import LUMA


def read(data_dir: Path, *, parts: Any = None, size: int = 28, channels: int = 1) -> Raw:
    """All images in memory, size x size pixels from 0 to 255, with a test part. Classes of the same name are
    one.

    parts: by name, `{source: ..., white: 255, train: null, test: null, split: 0}` and the source's arguments.
    white: its largest pixel value. train, test: how many images to keep, stratified (null: all); a source
    without a test part holds `test` out. Raises KdrunError.
    """
    if not isinstance(parts, Mapping) or len(parts) < 2:
        problem = "two data sets or more are needed: {NAME: {source: SOURCE, ...}, ...}"
        raise KdrunError("dataset.parts", parts, problem)
    raws = {f"{name}": _part(f"dataset.parts.{name}", node, data_dir) for name, node in parts.items()}
    classes = tuple(dict.fromkeys(name for raw in raws.values() for name in raw.classes))
    both: list[Part] = []
    for which in (0, 1):
        own = [
            (raw, (raw.train, raw.test)[which], float(parts[name].get("white", 255)))
            for name, raw in raws.items()
        ]
        images = [_alike(part, raw.seen, white, size, channels) for raw, part, white in own if part]
        labels = [_numbered(part.labels, raw.classes, classes) for raw, part, _ in own if part]
        both.append(Part(torch.cat(images), torch.cat(labels)))
    return Raw(both[0], both[1], classes)


def _part(key: str, node: Any, data_dir: Path) -> Raw:
    """A data set with a test part: its own, or one that is held out. Raises KdrunError below `key`."""
    if not isinstance(node, Mapping) or not node.get("source"):
        raise KdrunError(key, f"{node}", "needs a source: {source: SOURCE, ...}")
    try:
        raw = checked(read_raw(node, data_dir), str(node["source"]))
        held, seed = node.get("test"), int(node.get("split", 0))
        if held is None and raw.test is None:
            problem = "this data set has no test part of its own: how many images?"
            raise KdrunError("dataset.test", None, problem)
        rows = split(raw.train.labels, node.get("train"), 0, 0 if raw.test else int(held or 0), seed)
        test = raw.test or raw.train.at(rows.test)
        if raw.test and held is not None:
            test = raw.test.at(split(raw.test.labels, None, 0, int(held), seed).test)
    except KdrunError as error:
        name = str(error.key).removeprefix("dataset").lstrip(".")
        raise KdrunError(f"{key}.{name}" if name else key, *error.args[1:]) from None
    return raw._replace(train=raw.train.at(rows.train), test=test)


def _alike(part: Part, seen: int | None, white: float, size: int, channels: int) -> Tensor:
    """(N, channels, size, size) uint8, from 0 to 255: the centre square, resized."""
    images = in_memory(part.images)
    pixels = centre(images, seen or min(images.shape[2:])).float() * (255 / white)
    if pixels.shape[1] == 3 and channels == 1:
        pixels = (pixels * torch.tensor(LUMA).view(1, 3, 1, 1)).sum(1, keepdim=True)
    if pixels.shape[2] != size:
        reduces = pixels.shape[2] > size
        pixels = F.interpolate(pixels, (size, size), mode="bilinear", align_corners=False, antialias=reduces)
    return pixels.round().clamp(0, 255).to(torch.uint8).expand(-1, channels, -1, -1).contiguous()


def _numbered(labels: Tensor, own: Sequence[str], classes: Sequence[str]) -> Tensor:
    """Labels by their numbers among all classes; -1 stays."""
    numbers = torch.tensor([*(classes.index(name) for name in own), -1])
    return numbers[labels]
