"""Logits of a model, and accuracies as pure functions of logits and labels.

In all functions logits are (N, K) float and labels (N,) int64. Sums are taken in float64.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from kdrun.eval_mode import evaluating
from kdrun.evaluation.figure import Figure
from kdrun.evaluation.subject import Subject
from kdrun.machine import exact
from kdrun.resources import no_memory

TOP5_CLASSES = 6
"""The fewest classes for which top-5 is reported: with five, every answer is right."""


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
    """Logits (N, K) float32 on the CPU of all batches (B, C, H, W), in their order, in evaluation mode and in
    exact float32.

    The model's weights, statistics and training flags do not change. A batch that does not fit into a GPU's
    memory is halved. Raises ValueError if there is no batch.
    """
    with evaluating(model), exact():
        return joined(halved(model, images).float() for images in batches).cpu()


def joined(parts: Iterable[Tensor], rows: int = 0) -> Tensor:
    """Parts (B, K), joined to (N, K) as they come. rows: N, if it is known.

    A list of parts would take far more memory than their size: the parts would lie between the large blocks
    of a forward, and the C library could not merge these again. Raises ValueError if there is no part.
    """
    logits, filled = None, 0
    for part in parts:
        end = filled + len(part)
        if logits is None:
            logits = part.new_empty(max(rows, end), *part.shape[1:])
        elif end > len(logits):
            more = max(end - len(logits), len(logits))
            logits = torch.cat([logits, logits.new_empty(more, *part.shape[1:])])
        logits[filled:end] = part
        filled = end
    if logits is None:
        raise ValueError("no batch to evaluate")
    return logits[:filled]


def halved(model: nn.Module, images: Tensor) -> Tensor:
    """Logits of a batch, in halves if the device, also a CPU, has no memory for the whole batch."""
    try:
        logits: Tensor = model(images)
        return logits
    except RuntimeError as error:
        if len(images) == 1 or not (isinstance(error, torch.OutOfMemoryError) or no_memory(error)):
            raise
    torch.cuda.empty_cache()  # outside of `except`: there the error still holds the forward's tensors
    first, second = images.tensor_split(2)
    return torch.cat([halved(model, first), halved(model, second)])


def correct(logits: Tensor, labels: Tensor, k: int = 1) -> Tensor:
    """(N,) bool: whether the label is among the k highest logits.

    Of equal logits the lower class comes first, as in argmax. A row with a NaN is wrong.
    """
    own = logits.gather(1, labels[:, None])
    earlier = torch.arange(logits.shape[1], device=logits.device) < labels[:, None]
    rank = ((logits > own) | ((logits == own) & earlier)).sum(1)
    return (rank < k) & ~logits.isnan().any(1)


def top_k(logits: Tensor, labels: Tensor, k: int = 1) -> float:
    """Percent of images whose label is among the k highest logits (see `correct`)."""
    return 100.0 * correct(logits, labels, k).double().mean().item()


def confusion_matrix(logits: Tensor, labels: Tensor) -> Tensor:
    """(K, K) int64 counts: rows are true classes, columns predicted ones. Label -1 is left out."""
    known, classes = labels >= 0, logits.shape[1]
    cells = labels[known] * classes + logits[known].argmax(1)
    return torch.bincount(cells, minlength=classes * classes).reshape(classes, classes)
