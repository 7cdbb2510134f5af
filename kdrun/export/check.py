"""Compares an exported file with its student on the whole test part."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypedDict

from torch import Tensor, nn

from kdrun.data.images import ImageSet
from kdrun.evaluation import compare
from kdrun.evaluation.accuracy import correct, logits_of
from kdrun.evaluation.agreement import agreement
from kdrun.evaluation.counts import share_interval
from kdrun.run_data import batches

BATCHES = (1, 2, 32)
"""Batch sizes: an export can be tied to the traced batch size, or be wrong for a single image."""

TOLERANCE = 1e-4
"""The largest allowed difference of logits, relative to the largest logit; rounding gives about 1e-6."""


class BatchAnswers(TypedDict):
    """The test part at one batch size. top1, agreement (with the student): in percent. difference: the
    largest difference of logits.
    """

    batch: int
    top1: float
    agreement: float
    difference: float


class Checked(TypedDict):
    """answered: by batch size. interval: of top-1 at the first batch size. drop: top-1 there minus the
    student's, in points, with its paired interval and the verdict of `compare`. scale: the largest logit.
    """

    images: int
    answered: list[BatchAnswers]
    top1: float
    interval: list[float]
    drop: float
    drop_interval: list[float]
    verdict: str
    scale: float


def top1_of(logits: Tensor, labels: Tensor) -> tuple[float, list[float]]:
    """Top-1 on the labelled images in percent, and its 95 % interval. Logits (N, K), labels (N,)."""
    known = labels >= 0
    right, images = int(correct(logits[known], labels[known]).sum()), int(known.sum())
    return 100 * right / images, list(share_interval(right, images))


def checked(model: nn.Module, student: Tensor, data: ImageSet, sizes: Sequence[int] = BATCHES) -> Checked:
    """The answers of an exported model, compared with the student's logits (N, K) on the test part.

    Errors of the model are not caught.
    """
    labels = data.test.labels
    every = [(size, logits_of(model, batches(data, size))) for size in sizes]
    answered = [
        BatchAnswers(
            batch=size,
            top1=top1_of(logits, labels)[0],
            agreement=agreement(logits, student),
            difference=float((logits - student).abs().max()),
        )
        for size, logits in every
    ]
    first = every[0][1]
    counts = compare.pairs(first, student, labels)
    interval = compare.gain_interval(counts)
    top1, own = top1_of(first, labels)
    return Checked(
        images=len(labels),
        answered=answered,
        top1=top1,
        interval=own,
        drop=compare.gain(counts),
        drop_interval=list(interval),
        verdict=compare.verdict(interval, compare.mcnemar_p(counts)),
        scale=float(student.abs().max()),
    )


def problem(outcome: Checked, exact: bool) -> str:
    """What is wrong with an export, in words; empty if it is good.

    exact: whether its logits must be the student's up to TOLERANCE. All logits must be finite.
    """
    for row in outcome["answered"]:
        at = f"at batch {row['batch']}"
        if not math.isfinite(row["difference"]):
            return f"{at} some logits are not finite"
        if exact and not row["difference"] <= TOLERANCE * outcome["scale"]:
            return (
                f"{at} logits differ by up to {row['difference']:.2g} from the student's, more than "
                f"{TOLERANCE:g} of the largest, {outcome['scale']:.3g}; its top-1 is {row['top1']:.1f} %"
            )
    return ""
