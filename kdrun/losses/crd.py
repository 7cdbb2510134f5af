"""Contrastive representation distillation: tell the teacher's embedding of an image from those of other
images.

Tian, Krishnan, Isola, "Contrastive Representation Distillation", ICLR 2020, https://arxiv.org/abs/1910.10699

Departures: the classes of the banks' images are learned as they come by, so in the first epoch a negative can
be of the image's own class; an image without a label takes all other images for negatives. Scores come from
one product with the whole bank, of which the drawn ones are kept: the same numbers with less memory. As in
the authors' code, scores are divided by a constant fixed in the first step.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdrun.errors import KdrunError
from kdrun.losses.base import Loss, Needs
from kdrun.losses.layers import Pair, pair
from kdrun.losses.numeric import number, show
from kdrun.losses.sampling import negatives, positives
from kdrun.types import Batch, Outputs, Shapes

EPSILON = 1e-7
POSITIVES = ("exact", "relaxed")


class Contrast(NamedTuple):
    """loss: a scalar. scale: the constant that scores are divided by, a scalar without gradient."""

    loss: Tensor
    scale: Tensor


def contrast(
    anchor: Tensor, bank: Tensor, drawn: Tensor, temperature: Tensor | float, scale: Tensor | None = None
) -> Contrast:
    """Noise-contrastive loss of anchors (N, D) against the bank (M, D) of the other model, mean over the
    batch.

    drawn: (N, 1 + K) rows of the bank, the positive first. scale: as returned by the first step; none, or one
    below 0, before it.
    """
    scores = (anchor @ bank.T / temperature).gather(1, drawn).exp()
    first = scores.detach().mean() * bank.shape[0]
    scale = first if scale is None else torch.where(scale > 0, scale, first)
    probabilities = scores / scale
    noise = (drawn.shape[1] - 1) / bank.shape[0]
    positive = probabilities[:, :1] / (probabilities[:, :1] + noise + EPSILON)
    negative = noise / (probabilities[:, 1:] + noise + EPSILON)
    loss = -(positive.log().sum() + negative.log().sum()) / anchor.shape[0]
    return Contrast(loss, scale)


def remembered(bank: Tensor, index: Tensor, embedding: Tensor, momentum: float) -> Tensor:
    """The rows `index` of the bank after an update, of length 1: (N, D)."""
    return F.normalize(momentum * bank[index] + (1 - momentum) * embedding.detach(), dim=1)


class CRD(Loss):
    """`contrast` of both embeddings, each projected to `dimension`, against the other model's bank.

    positive: exact (the image itself) or relaxed (any image of its class). images: rows of the banks; 0: as
    many as there are training images.
    """

    handles_mixed = False
    temperature: Tensor
    student_bank: Tensor
    teacher_bank: Tensor
    classes: Tensor
    scales: Tensor
    pair: Pair

    def __init__(
        self,
        negatives: int = 16384,
        dimension: int = 128,
        temperature: float = 0.07,
        momentum: float = 0.5,
        positive: str = "exact",
        images: int = 0,
    ) -> None:
        super().__init__()
        if positive not in POSITIVES:
            raise KdrunError("positive", positive, "no such choice", POSITIVES)
        number("negatives", negatives, least=1)
        number("dimension", dimension, least=1)
        number("momentum", momentum, least=0)
        self.register_buffer("temperature", number("temperature", temperature, above=0), persistent=False)
        self.negatives, self.dimension, self.momentum = negatives, dimension, momentum
        self.positive, self.images = positive, images

    @property
    def needs(self) -> Needs:
        return Needs(frozenset({"logits", "embedding"}), frozenset({"embedding"}), indices=True)

    def allocate(self, images: int) -> None:
        self.images = self.images or images

    def build(self, student: Shapes, teacher: Shapes) -> None:
        self.pair = pair(student, teacher, "embedding", "embedding")
        rows = self.images
        if rows < 2:
            raise KdrunError("images", rows, "how many training images there are, two at least, is needed")
        self.student_head = nn.Linear(self.pair.student[0], self.dimension)
        self.teacher_head = nn.Linear(self.pair.teacher[0], self.dimension)
        for name in ("student_bank", "teacher_bank"):
            noise = (2 * torch.rand(rows, self.dimension) - 1) * (3 / self.dimension) ** 0.5
            self.register_buffer(name, noise)
        self.register_buffer("classes", torch.full((rows,), -1))
        self.register_buffer("scales", torch.full((2,), -1.0))

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        if batch.rows is None:
            raise ValueError("the rows of the batch are needed (needs.indices)")
        # Held in range without a copy to the host: with fewer rows than images, some images share one.
        index = batch.rows.index % self.classes.shape[0]
        if self.training:
            self.classes.index_copy_(0, index, batch.labels)
        chosen = positives(self.classes, index, batch.labels) if self.positive == "relaxed" else index
        others = negatives(self.classes, index, batch.labels, self.negatives)
        drawn = torch.cat([chosen[:, None], others], dim=1)
        ours, theirs = self.pair.read(student, teacher)
        return self.against_banks(ours, theirs, index, drawn)

    def against_banks(self, student: Tensor, teacher: Tensor, index: Tensor, drawn: Tensor) -> Tensor:
        """The loss of embeddings (N, D), (N, D'); while training, banks and scales are brought up to date."""
        ours = F.normalize(self.student_head(student), dim=1)
        theirs = F.normalize(self.teacher_head(teacher), dim=1)
        # Copies, because the banks change below and the backward pass still reads what was scored.
        first = contrast(ours, self.teacher_bank.clone(), drawn, self.temperature, self.scales[0])
        second = contrast(theirs, self.student_bank.clone(), drawn, self.temperature, self.scales[1])
        if self.training:
            self.scales.copy_(torch.stack([first.scale, second.scale]))
            self.student_bank.index_copy_(0, index, remembered(self.student_bank, index, ours, self.momentum))
            self.teacher_bank.index_copy_(
                0, index, remembered(self.teacher_bank, index, theirs, self.momentum)
            )
        return first.loss + second.loss

    def formula(self) -> str:
        return f"CRD({self.negatives} negatives, T={show(self.temperature)})"
