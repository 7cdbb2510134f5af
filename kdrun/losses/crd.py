"""Contrastive representation distillation: tell the teacher's embedding of an image from those of other
images.

Tian, Krishnan, Isola, "Contrastive Representation Distillation", ICLR 2020, https://arxiv.org/abs/1910.10699

Departures: the classes of the banks' images are learned from the batches, so in the first epoch a negative
can be of the image's own class. For an image without a label, all other images are negatives. The scores of
the whole bank are computed in one product and the drawn ones are kept: the same numbers with less memory. As
in the authors' code, scores are divided by a constant fixed in the first step.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdrun.errors import KdrunError
from kdrun.losses.base import Loss, Needs
from kdrun.losses.numeric import number, show
from kdrun.losses.paired import Pair, pair
from kdrun.losses.sampling import Sampler
from kdrun.types import Batch, Outputs, Rows, Shapes

POSITIVES = ("exact", "relaxed")

EPSILON = 1e-7


class Contrast(NamedTuple):
    """loss: a scalar. scale: the constant that scores are divided by, a scalar without gradient."""

    loss: Tensor
    scale: Tensor


def contrast(
    anchor: Tensor, bank: Tensor, drawn: Tensor, temperature: Tensor | float, scale: Tensor | None = None
) -> Contrast:
    """Noise-contrastive loss (Gutmann, Hyvarinen, AISTATS 2010) of anchors (N, D) against the bank (M, D) of
    the other model, mean over the batch. drawn: (N, 1 + K) rows of the bank, the positive first. scale: as
    returned by the first step; none, or one below 0, before it.
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


class Memory(nn.Module):
    """A memory bank: an embedding for every training image, (M, D), at first uniform noise of length about 1.
    momentum: how much of an old embedding stays when it is brought up to date.
    """

    rows: Tensor

    def __init__(self, images: int, dimension: int, momentum: float) -> None:
        super().__init__()
        noise = (2 * torch.rand(images, dimension) - 1) * (3 / dimension) ** 0.5
        self.register_buffer("rows", noise)
        self.momentum = momentum

    def forward(self) -> Tensor:
        """A copy of the rows: a backward pass reads it when the bank itself has changed."""
        return self.rows.clone()

    def remember(self, index: Tensor, embedding: Tensor) -> None:
        """Mix embeddings (N, D) into the rows `index`, which have length 1 afterwards."""
        mixed = self.momentum * self.rows[index] + (1 - self.momentum) * embedding.detach()
        self.rows.index_copy_(0, index, F.normalize(mixed, dim=1))


class CRD(Loss):
    """`contrast` of both embeddings, each projected to `dimension`, against the other model's bank. positive:
    exact (the image itself) or relaxed (any image of its class). images: rows of the banks; 0: one for each.
    """

    of_the_batch = True
    draws = True
    unordered = "gradients of images that are drawn twice"

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
        self.temperature = self.hold("temperature", temperature, above=0)
        self.negatives, self.dimension, self.momentum = negatives, dimension, momentum
        self.positive, self.images = positive, images

    @property
    def needs(self) -> Needs:
        return Needs(frozenset({"logits", "embedding"}), frozenset({"embedding"}), indices=True)

    def build(self, student: Shapes, teacher: Shapes, images: int = 0) -> None:
        self.pair = pair(student, teacher, "embedding", "embedding")
        self.images = self.images or images
        if self.images < 2:
            problem = "how many training images there are, two at least, is needed"
            raise KdrunError("images", self.images, problem)
        self.student_head = nn.Linear(self.pair.student[0], self.dimension)
        self.teacher_head = nn.Linear(self.pair.teacher[0], self.dimension)
        self.student_bank = Memory(self.images, self.dimension, self.momentum)
        self.teacher_bank = Memory(self.images, self.dimension, self.momentum)
        self.sampler = Sampler(self.images, self.negatives, self.positive == "relaxed")
        self.register_buffer("scales", torch.full((2,), -1.0))

    def prepare(self, rows: Rows, labels: Tensor) -> None:
        self.sampler.prepare(rows.index % self.images, labels[rows.index])

    @property
    def form(self) -> object:
        return self.sampler.order is None

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch) -> Tensor:
        if batch.rows is None:
            raise ValueError("the rows of the batch are needed (needs.indices)")
        # In range, without a copy to the host. If there are fewer rows than images, some images share one.
        index = batch.rows.index % self.images
        ours, theirs = self.pair.read(student, teacher)
        return self.against_banks(ours, theirs, index, self.sampler(index, batch.labels))

    def against_banks(self, student: Tensor, teacher: Tensor, index: Tensor, drawn: Tensor) -> Tensor:
        """The loss of embeddings (N, D), (N, D'). In training mode it also updates banks and scales."""
        ours = F.normalize(self.student_head(student), dim=1)
        theirs = F.normalize(self.teacher_head(teacher), dim=1)
        first = contrast(ours, self.teacher_bank(), drawn, self.temperature, self.scales[0])
        second = contrast(theirs, self.student_bank(), drawn, self.temperature, self.scales[1])
        if self.training:
            self.scales.copy_(torch.stack([first.scale, second.scale]))
            self.student_bank.remember(index, ours)
            self.teacher_bank.remember(index, theirs)
        return first.loss + second.loss

    def formula(self) -> str:
        return f"CRD({self.negatives} negatives, T={show(self.temperature)})"
