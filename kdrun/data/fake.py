"""Made-up images for trying things out, which can be learnt: a pattern for each class, with noise."""

from __future__ import annotations

from pathlib import Path

import torch
from torch.nn import functional

from kdrun.data.images import Part, Raw
from kdrun.errors import KdrunError


def read(
    data_dir: Path,
    *,
    per_class: int = 80,
    classes: int = 10,
    size: int = 32,
    channels: int = 3,
    noise: float = 0.25,
    image_seed: int = 0,
) -> Raw:
    """`per_class` images of `size` x `size` pixels for each class, as one part without a test part. noise:
    standard deviation on each pixel, 1 being the range from black to white. image_seed: equal seeds make
    equal images. Raises KdrunError for counts below 1 (classes: below 2) and a negative noise.
    """
    least = {"per_class": 1, "classes": 2, "size": 1, "channels": 1, "noise": 0}
    given = {"per_class": per_class, "classes": classes, "size": size, "channels": channels, "noise": noise}
    for key, value in given.items():
        if value < least[key]:
            raise KdrunError(f"dataset.{key}", value, f"must be at least {least[key]}")
    draw = torch.Generator().manual_seed(image_seed)
    labels = torch.arange(classes).repeat(per_class)
    coarse = 0.1 + 0.8 * torch.rand(classes, channels, 4, 4, generator=draw)
    patterns = functional.interpolate(coarse, size=(size, size), mode="bilinear", align_corners=True)
    pixels = patterns[labels] + noise * torch.randn(len(labels), channels, size, size, generator=draw)
    images = pixels.mul(255).round().clamp(0, 255).to(torch.uint8)
    return Raw(Part(images, labels), None, tuple(f"class {n}" for n in range(classes)))
