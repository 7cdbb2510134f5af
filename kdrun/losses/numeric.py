"""Numbers in losses: at least float32, means over the rows that count, arguments as tensors."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from kdrun.errors import KdrunError
from kdrun.types import UNLABELLED


def widen(values: Tensor) -> Tensor:
    """The tensor in at least float32: bf16 and fp16 hold too few digits for a softmax at a temperature."""
    return values.float() if values.dtype in (torch.bfloat16, torch.float16) else values


def labelled(labels: Tensor) -> Tensor:
    """Which rows carry a label: (N,) bool from (N,) int64."""
    return labels != UNLABELLED


def mse(student: Tensor, teacher: Tensor) -> Tensor:
    """(N,): the mean squared difference of each image's elements. student, teacher: (N, ...) of one shape."""
    return F.mse_loss(student, teacher, reduction="none").flatten(1).mean(1)


def number(key: str, value: float, *, above: float | None = None, least: float | None = None) -> Tensor:
    """A constructor's argument as a 0-dim float32 tensor, which schedules can change in place. Raises
    KdrunError if it is not above `above` or is less than `least`.
    """
    if above is not None and not value > above:
        raise KdrunError(key, value, f"must be above {above:g}")
    if least is not None and not value >= least:
        raise KdrunError(key, value, f"must be {least:g} or more")
    return torch.tensor(float(value), dtype=torch.float32)


def show(value: Tensor | float) -> str:
    """A number as the equation shows it: `4`, `0.07`."""
    return f"{float(value):.6g}"
