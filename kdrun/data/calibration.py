"""The images from which an int8 model takes the ranges of its activations."""

from __future__ import annotations

import torch
from torch import Tensor

from kdrun.data.batches import plain_batches
from kdrun.data.images import ImageSet, Part
from kdrun.data.picture import centre

CALIBRATION = 512
"""The most training images for the calibration of int8 (the ranges of activations)."""


def calibration(data: ImageSet) -> Tensor:
    """Training images (N, C, H, W), normalised and unaugmented: CALIBRATION of them, drawn with seed 0."""
    order = torch.randperm(len(data.train.labels), generator=torch.Generator().manual_seed(0))
    rows = order[:CALIBRATION].sort().values
    part = Part(data.train.images[rows], data.train.labels[rows])
    images = torch.cat(list(plain_batches(part, data, torch.device("cpu"))()))
    return images if images.shape[1:] == data.image_shape else centre(images, data.image_shape[2])
