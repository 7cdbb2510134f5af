"""Whether a gain changes: the difference of two differences, over the same images."""

from __future__ import annotations

import math
from typing import NamedTuple

from torch import Tensor

from kdrun.evaluation.accuracy import correct
from kdrun.evaluation.compare import Z95


class Change(NamedTuple):
    """In points, with its 95 % interval over the images, and how many images have a label."""

    change: float
    interval: tuple[float, float]
    n: int


def gain_change(now: tuple[Tensor, Tensor], before: tuple[Tensor, Tensor], labels: Tensor) -> Change:
    """The gain of one pair (student, control) minus that of another: logits (N, K) each, labels (N,).

    Each image gives a whole number from -2 to 2; the interval is the normal one of their mean. Raises
    ValueError if fewer than two images have a label.
    """
    known = labels >= 0
    new, old = (
        correct(first[known], labels[known]).double() - correct(second[known], labels[known]).double()
        for first, second in (now, before)
    )
    each = new - old
    if len(each) < 2:
        raise ValueError("two labelled images are needed")
    mean = 100 * each.mean().item()
    half = 100 * Z95 * each.std().item() / math.sqrt(len(each))
    return Change(mean, (mean - half, mean + half), len(each))
