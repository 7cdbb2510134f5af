"""How often a model is right: logits once, then pure functions of logits and labels.

Everywhere: logits (N, K) float, labels (N,) int64. Sums are taken in float64.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from kdrun.eval_mode import evaluating
from kdrun.evaluation.figure import Figure
from kdrun.evaluation.subject import Subject

TOP5_CLASSES = 6
"""The fewest classes for which top-5 says anything: with five every answer is right."""


def figures(subject: Subject) -> Iterator[Figure]:
    """`n` labelled images, `top1` and `top5` in percent, of each model on each part. No top-5 below
    TOP5_CLASSES classes.
    """
    for answers in subject.answers:
        _, _, _, logits, labels = answers.labelled
        if not len(labels):
            continue
        yield answers.figure("n", len(labels), "images")
        yield answers.figure("top1", top_k(logits, labels), "%")
        if logits.shape[1] >= TOP5_CLASSES:
            yield answers.figure("top5", top_k(logits, labels, 5), "%")


@torch.inference_mode()
def logits_of(model: nn.Module, batches: Iterable[Tensor]) -> Tensor:
    """Logits (N, K) float32 on the CPU of all batches (B, C, H, W), in their order, in evaluation mode.

    The model's weights, statistics and training flags are left as they were. A batch that a GPU has no room
    for is halved. Raises ValueError without a batch.
    """
    with evaluating(model):
        return joined(halved(model, images).float() for images in batches).cpu()


def joined(parts: Iterable[Tensor], rows: int = 0) -> Tensor:
    """(N, K): parts (B, K), one after the other, each copied as it comes. rows: N, if it is known.

    A list of parts would cost far more than their size: each would lie between the large blocks of a forward,
    and the C library could not join these again. Raises ValueError without a part.
    """
    whole, filled = None, 0
    for part in parts:
        end = filled + len(part)
        if whole is None:
            whole = part.new_empty(max(rows, end), *part.shape[1:])
        elif end > len(whole):
            whole = torch.cat([whole, whole.new_empty(max(end - len(whole), len(whole)), *part.shape[1:])])
        whole[filled:end] = part
        filled = end
    if whole is None:
        raise ValueError("no batch to evaluate")
    return whole[:filled]


def halved(model: nn.Module, images: Tensor) -> Tensor:
    """Logits of a batch, in as many parts as the device has room for."""
    try:
        logits: Tensor = model(images)
        return logits
    except torch.OutOfMemoryError:
        if len(images) == 1:
            raise
    torch.cuda.empty_cache()  # here, where the error no longer holds what the forward had made
    first, second = images.tensor_split(2)
    return torch.cat([halved(model, first), halved(model, second)])


def correct(logits: Tensor, labels: Tensor, k: int = 1) -> Tensor:
    """(N,) bool: whether the label is among the k highest logits. Of equal logits the lower class comes
    first, as in argmax; a row that holds a NaN is wrong."""
    own = logits.gather(1, labels[:, None])
    earlier = torch.arange(logits.shape[1], device=logits.device) < labels[:, None]
    rank = ((logits > own) | ((logits == own) & earlier)).sum(1)
    return (rank < k) & ~logits.isnan().any(1)


def top_k(logits: Tensor, labels: Tensor, k: int = 1) -> float:
    """Percent of images whose label is among the k highest logits (see `correct`)."""
    return 100.0 * correct(logits, labels, k).double().mean().item()


def confusion_matrix(logits: Tensor, labels: Tensor) -> Tensor:
    """(K, K) int64 counts: rows are true classes, columns the answers. Images with label -1 are left out."""
    known, classes = labels >= 0, logits.shape[1]
    cells = labels[known] * classes + logits[known].argmax(1)
    return torch.bincount(cells, minlength=classes * classes).reshape(classes, classes)
