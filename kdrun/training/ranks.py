"""A step that several processes share: each computes a part of the batch, and all make the same update.

The batch is the one of a process alone, cut into consecutive parts. Each rank takes its share of every mean
(`kdrun.losses.sharing`); the gradients of the shares are added up over ranks. So the gradient is that of the
whole batch, whatever its size, and weights, optimisers and sums stay equal on all ranks.

Gradients are added up in one call after the backward pass, not during it: a student's are few (46.8 MB of
ResNet-18 in float32), see docs/ranks.md.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kdrun.losses.mix import Mixture
from kdrun.losses.sharing import Shared
from kdrun.models.sync_batchnorm import batch_norms, synchronise
from kdrun.ranks import Ranks
from kdrun.training.optimisers import Dot
from kdrun.training.plan import EpochPlan
from kdrun.training.seeds import derived
from kdrun.training.step import Learner, Stepping
from kdrun.types import Batch, Outputs, Rows

LOOKED_AT = 16
"""Rows of a batch that every rank looks at outside of steps, if its own part has fewer."""


class Ranked:
    """A step of which this rank computes its part. step: with `part_of` as its `part`. seed: of the training.
    Random numbers are a function of seed, epoch, step and rank, so the state of rank 0 is enough to continue.
    Buffers, such as the running statistics of a batch norm, are rank 0's: they are made equal before each
    epoch.
    """

    def __init__(self, step: Stepping, ranks: Ranks, seed: int) -> None:
        self.step, self.ranks, self.seed = step, ranks, seed
        self.learners, self.teacher, self.lr = step.learners, step.teacher, step.lr
        self.epoch = self.number = 0
        for learner in self.learners:
            learner.mix.sharing, learner.summed = Shared(ranks), SumOverRanks(ranks)

    def prepare(self, plans: Sequence[EpochPlan], first: int) -> None:
        self.ranks.meet()  # rank 0 may have validated for long
        for learner in self.learners:
            self.ranks.copy(learner.model.buffers())
        self.epoch = plans[0].epoch
        self.step.prepare(plans, first)

    def before(self, number: int) -> None:
        self.number = number
        self.step.before(number)

    def __call__(self, rows: Sequence[Rows]) -> None:
        (batch,) = rows  # one stream: trainings do not share a loop
        at = self.epoch, self.number
        with self.ranks.sharing(len(batch.index), derived(self.seed, "ranks", *at)):
            torch.manual_seed(derived(self.seed, "rank", *at, self.ranks.rank))
            self.step([part_of(batch, self.ranks)])

    def given(self, learner: Learner, rows: Rows) -> tuple[Batch, Outputs]:
        """Of the first rows only, the same on every rank: as many as a rank computes."""
        span = self.ranks.span(len(rows.index))
        return self.step.given(learner, rows.part(slice(max(LOOKED_AT, span.stop - span.start))))


def part_of(rows: Rows, ranks: Ranks) -> Rows:
    """The rows of a batch that a rank computes."""
    return rows.part(ranks.span(len(rows.index)))


class SumOverRanks:
    """Adds up the gradients of a learner over ranks, and its mixture; in one call of the network."""

    def __init__(self, ranks: Ranks) -> None:
        self.ranks = ranks
        self.reached: list[bool] = []

    def __call__(self, learner: Learner, mixture: Mixture, rows: int) -> tuple[Mixture, int]:
        parameters = self._reached(learner.optimiser.parameters)
        gradients = [_gradient(parameter) for parameter in parameters]
        if isinstance(learner.optimiser, Dot):
            gradients += [pull for pull in learner.optimiser.pulls if pull is not None]
        parts = torch.cat([mixture.total.detach()[None], mixture.parts])
        self._add_up([*gradients, parts])
        return Mixture(parts[0], parts[1:], mixture.values), sum(self.ranks.sizes)

    def _reached(self, parameters: Sequence[Tensor]) -> list[Tensor]:
        """The parameters that have a gradient on any rank. They are the same in every step."""
        if not self.reached:
            has = torch.tensor([float(parameter.grad is not None) for parameter in parameters])
            self.reached = (self.ranks.total(has) > 0).tolist()
        return [parameter for parameter, one in zip(parameters, self.reached, strict=True) if one]

    @torch.no_grad()
    def _add_up(self, tensors: Sequence[Tensor]) -> None:
        for kind in dict.fromkeys(tensor.dtype for tensor in tensors):
            own = [tensor for tensor in tensors if tensor.dtype == kind]
            whole = torch.cat([tensor.reshape(-1) for tensor in own])
            self.ranks.sum(whole)
            pieces = torch.split(whole, [tensor.numel() for tensor in own])
            torch._foreach_copy_(
                own, [piece.view(tensor.shape) for piece, tensor in zip(pieces, own, strict=True)]
            )


def _gradient(parameter: Tensor) -> Tensor:
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    return parameter.grad


def synchronised(learner: Learner, ranks: Ranks, key: str) -> None:
    """Gives the batch norms of a learner and of its adapters the statistics of all ranks. Those of a loss of
    the batch see the whole batch anyway. Raises KdrunError under `key`.
    """
    for model in local(learner.model, learner.mix.losses):
        synchronise(model, ranks, key)


def local(model: nn.Module, losses: nn.ModuleDict) -> list[nn.Module]:
    """The modules that see a part of the batch: the model, and the adapters of losses of single images."""
    return [model, *(loss for loss in losses.values() if not loss.of_the_batch)]


def normalises_parts(model: nn.Module, losses: nn.ModuleDict) -> bool:
    """Whether there is a batch norm that sees a part of the batch."""
    return any(True for module in local(model, losses) for _ in batch_norms(module))
