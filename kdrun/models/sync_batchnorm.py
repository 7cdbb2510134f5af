"""Batch normalisation with the statistics of all ranks' batches, as torch's SyncBatchNorm on GPUs alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from kdrun.errors import KdrunError
from kdrun.ranks import Ranks


def synchronise(model: nn.Module, ranks: Ranks, key: str) -> None:
    """Turns every batch norm of a model into a synchronised one, in place: parameters, buffers, names and
    hooks stay. Raises KdrunError under `key` for a batch norm of another class than torch's.
    """
    for name, norm in batch_norms(model):
        if type(norm) not in SYNCHRONISED:
            problem = f"{name} is a {type(norm).__name__}, of which there is no synchronised one"
            raise KdrunError(key, True, problem)
        norm.ranks = ranks  # type: ignore[assignment]
        norm.__class__ = SYNCHRONISED[type(norm)]


def batch_norms(model: nn.Module) -> Iterator[tuple[str, _BatchNorm]]:
    """The modules, with their names, that normalise by statistics of the batch."""
    for name, module in model.named_modules():
        if isinstance(module, _BatchNorm):
            yield name, module


class _Synchronised(_BatchNorm):
    """In training, within a step, of the rows of all ranks that count; otherwise as torch's."""

    ranks: Ranks

    def forward(self, features: Tensor) -> Tensor:
        if not self.ranks.sizes or not (self.training or self.running_mean is None):
            return super().forward(features)
        self._check_input_dim(features)  # type: ignore[no-untyped-call]
        scale, shift = self.weight, self.bias
        normal, mean, variance, count = NormalisedOverRanks.apply(
            features, scale, shift, self.eps, self.ranks
        )
        if self.training and self.track_running_stats:
            self._remember(mean, variance, count)
        result: Tensor = normal
        return result

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor, count: Tensor) -> None:
        """Updates the running statistics, as torch's do."""
        assert self.num_batches_tracked is not None
        assert self.running_mean is not None and self.running_var is not None
        self.num_batches_tracked.add_(1)
        share = self.momentum
        weight = 1.0 / float(self.num_batches_tracked) if share is None else share
        unbiased = variance * (count / (count - 1).clamp(min=1))
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), weight)
        self.running_var.lerp_(unbiased.to(self.running_var.dtype), weight)


class _Synchronised1d(_Synchronised, nn.BatchNorm1d):
    """For (N, C) and (N, C, L)."""


class _Synchronised2d(_Synchronised, nn.BatchNorm2d):
    """For (N, C, H, W)."""


class _Synchronised3d(_Synchronised, nn.BatchNorm3d):
    """For (N, C, D, H, W)."""


SYNCHRONISED: dict[type, type] = {
    nn.BatchNorm1d: _Synchronised1d,
    nn.BatchNorm2d: _Synchronised2d,
    nn.BatchNorm3d: _Synchronised3d,
}


class NormalisedOverRanks(torch.autograd.Function):
    """Features (N, C, ...) with mean 0 and variance 1 over all ranks, scaled and shifted, in their own type;
    then mean (C,), biased variance (C,) and the number of values (), which have no gradient. Rows that do not
    count change no statistics and no gradient of others.
    """

    @staticmethod
    def forward(
        ctx: Any, features: Tensor, scale: Tensor | None, shift: Tensor | None, eps: float, ranks: Ranks
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        values = features if features.dtype == torch.float64 else features.float()
        mean, variance, count = statistics(ranks.counted(values), ranks)
        inverse = (variance + eps).rsqrt()
        normal = (values - _over(mean, values)) * _over(inverse, values)
        ctx.ranks, ctx.sizes = ranks, ranks.sizes
        ctx.save_for_backward(normal, scale, inverse, count)
        ctx.has_shift = shift is not None
        ctx.mark_non_differentiable(mean, variance, count)
        result = normal if scale is None else normal * _over(scale, values)
        result = result if shift is None else result + _over(shift, values)
        return result.to(features.dtype), mean, variance, count

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        normal, scale, inverse, count = ctx.saved_tensors
        own, given = ctx.sizes[ctx.ranks.rank], gradients[0].to(normal.dtype)
        others = [place for place in range(normal.dim()) if place != 1]
        sums = torch.stack([given[:own].sum(others), (given[:own] * normal[:own]).sum(others)])
        both = ctx.ranks.total(sums) / count
        back = given.clone()
        back[:own] -= _over(both[0], normal) + normal[:own] * _over(both[1], normal)
        back *= _over(inverse if scale is None else inverse * scale, normal)
        by_scale = None if scale is None else sums[1].to(scale.dtype)
        by_shift = sums[0].to(inverse.dtype) if ctx.has_shift else None
        return back.to(gradients[0].dtype), by_scale, by_shift, None, None


def statistics(values: Tensor, ranks: Ranks) -> tuple[Tensor, Tensor, Tensor]:
    """Mean (C,), biased variance (C,) and number of values () over the rows of all ranks. values: (n, C, ...)
    of this one; n can be 0. Squares are about each rank's own mean (Chan et al. 1979), for their digits.
    """
    others = [place for place in range(values.dim()) if place != 1]
    number = values.new_tensor(values.numel() // max(1, values.shape[1]))
    mean = values.sum(others) / number.clamp(min=1)
    squares = (values - _over(mean, values)).square().sum(others)
    parts = torch.stack(ranks.collect(torch.cat([number[None], mean, squares])))
    numbers, (means, every) = parts[:, :1], parts[:, 1:].chunk(2, 1)
    count = numbers.sum()
    whole = (numbers * means).sum(0) / count
    variance = (every + numbers * (means - whole).square()).sum(0) / count
    return whole, variance, count


def _over(channels: Tensor, like: Tensor) -> Tensor:
    """(C,) to (1, C, 1, ...)."""
    return channels.view(1, -1, *[1] * (like.dim() - 2))
