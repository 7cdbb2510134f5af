"""Draws other images by their class, on the device and without a copy to the host."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from kdrun.losses.numeric import labelled
from kdrun.types import UNLABELLED


class Order(NamedTuple):
    """Images by class. images: (M,) all, in that order. classes: (M,) theirs. places: (M,) where each is."""

    images: Tensor
    classes: Tensor
    places: Tensor

    @classmethod
    def of(cls, classes: Tensor) -> Order:
        """classes: (M,) int64, -1 where unknown."""
        images = classes.argsort(stable=True)
        return cls(images, classes[images], images.argsort())


class Sampler(nn.Module):
    """For each image a positive and `count` negatives: (N, 1 + count) images, the positive first. relaxed:
    whether the positive is any image of the class. The classes of the `images` images are learned from the
    batches of the training. order: in an epoch in which none changes.
    """

    classes: Tensor

    def __init__(self, images: int, count: int, relaxed: bool) -> None:
        super().__init__()
        self.register_buffer("classes", torch.full((images,), UNLABELLED))
        self.count, self.relaxed = count, relaxed
        self.order: Order | None = None

    def prepare(self, index: Tensor, labels: Tensor) -> None:
        """Before an epoch with these images (N,), (N,): sorts once if all are known. Waits for the device."""
        if not torch.equal(self.classes[index], labels):
            self.order = None
        elif self.order is None:  # else it is the same: no class has changed
            self.order = Order.of(self.classes)

    def forward(self, index: Tensor, labels: Tensor) -> Tensor:
        if self.training:
            self.classes.index_copy_(0, index, labels)
        order = Order.of(self.classes) if self.order is None else self.order
        chosen = positives(order, index, labels) if self.relaxed else index
        others = negatives(order, index, labels, self.count)
        return torch.cat([chosen[:, None], others], dim=1)


def negatives(order: Order, index: Tensor, labels: Tensor, count: int) -> Tensor:
    """(N, count) images of other classes, drawn with replacement; all other images if there is no label.
    index: (N,) images, labels: (N,) their classes.
    """
    start, size = _own_class(order, index, labels)
    free = len(order.images) - size
    draws = torch.rand(index.shape[0], count, device=index.device) * free[:, None]
    places = torch.minimum(draws.long(), free[:, None] - 1)
    return order.images[places + size[:, None] * (places >= start[:, None])]


def positives(order: Order, index: Tensor, labels: Tensor) -> Tensor:
    """(N,) images of the same class, the image itself if there is no label. As for `negatives`."""
    start, size = _own_class(order, index, labels)
    draws = torch.rand(index.shape[0], device=index.device) * size
    return order.images[start + torch.minimum(draws.long(), size - 1)]


def _own_class(order: Order, index: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Where in the order each row's class starts (N,), and its size (N,). A row without a label is a class of
    its own, as is a row whose class has no image or all images.
    """
    start = torch.searchsorted(order.classes, labels)
    size = torch.searchsorted(order.classes, labels, right=True) - start
    known = labelled(labels) & (size > 0) & (size < len(order.images))
    return torch.where(known, start, order.places[index]), torch.where(known, size, 1)
