"""Draws other images by their class, on the device and without a copy to the host."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kdrun.losses.numeric import labelled
from kdrun.types import UNLABELLED


class Sampler(nn.Module):
    """For each image a positive and `count` negatives: (N, 1 + count) images, the positive first.

    relaxed: whether the positive is any image of the class, in place of the image itself. The classes of the
    `images` images are learned from the batches of the training.
    """

    classes: Tensor

    def __init__(self, images: int, count: int, relaxed: bool) -> None:
        super().__init__()
        self.register_buffer("classes", torch.full((images,), UNLABELLED))
        self.count, self.relaxed = count, relaxed

    def forward(self, index: Tensor, labels: Tensor) -> Tensor:
        if self.training:
            self.classes.index_copy_(0, index, labels)
        chosen = positives(self.classes, index, labels) if self.relaxed else index
        others = negatives(self.classes, index, labels, self.count)
        return torch.cat([chosen[:, None], others], dim=1)


def negatives(classes: Tensor, index: Tensor, labels: Tensor, count: int) -> Tensor:
    """(N, count) images of other classes, drawn with replacement; all other images if there is no label.

    classes: (M,) int64 of all images, -1 where unknown. index: (N,) images, labels: (N,) their classes.
    """
    order, start, size = _own_class(classes, index, labels)
    free = classes.shape[0] - size
    draws = torch.rand(index.shape[0], count, device=index.device) * free[:, None]
    places = torch.minimum(draws.long(), free[:, None] - 1)
    return order[places + size[:, None] * (places >= start[:, None])]


def positives(classes: Tensor, index: Tensor, labels: Tensor) -> Tensor:
    """(N,) images of the same class, the image itself if there is no label. As for `negatives`."""
    order, start, size = _own_class(classes, index, labels)
    draws = torch.rand(index.shape[0], device=index.device) * size
    return order[start + torch.minimum(draws.long(), size - 1)]


def _own_class(classes: Tensor, index: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """All images ordered by class (M,), where in that order each row's class starts (N,), and its size (N,).

    A row without a label is a class of its own, as is a row whose class has no image or all images.
    """
    order = classes.argsort(stable=True)
    ordered = classes[order]
    start = torch.searchsorted(ordered, labels)
    size = torch.searchsorted(ordered, labels, right=True) - start
    known = labelled(labels) & (size > 0) & (size < classes.shape[0])
    place = order.argsort()[index]
    return order, torch.where(known, start, place), torch.where(known, size, 1)
