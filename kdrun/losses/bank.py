"""A memory bank: an embedding for every training image, brought up to date when the image is in a batch."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Memory(nn.Module):
    """Embeddings of M images, (M, D), at first uniform noise of length about 1.

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
