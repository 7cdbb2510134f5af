"""Merged label sets: each model on the classes of each teacher, and classes that are taken for another's."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from kdrun.evaluation.accuracy import top_k
from kdrun.evaluation.figure import Figure
from kdrun.evaluation.subject import Subject


def figures(subject: Subject) -> Iterator[Figure]:
    """In percent of labelled images, if several teachers know different classes: `top1_of_NAME`, right of
    those whose class the teacher knows, and `across_blocks`, see below. For each model on each part.
    """
    if len(subject.blocks) < 2:
        return
    for answers in subject.answers:
        _, _, _, logits, labels = answers.labelled
        for name, classes in subject.blocks.items():
            own = torch.isin(labels, torch.tensor(classes))
            if own.any():
                yield answers.figure(f"top1_of_{name}", top_k(logits[own], labels[own]), "%")
        if len(labels):
            blocks = list(subject.blocks.values())
            yield answers.figure("across_blocks", across_blocks(logits, labels, blocks), "%")


def across_blocks(logits: Tensor, labels: Tensor, blocks: list[tuple[int, ...]]) -> float:
    """Percent of images that are taken for a class which no teacher knows beside their own class.

    logits: (N, K). labels: (N,) int64. blocks: the classes of each teacher. A class that no teacher knows is
    a block of its own.
    """
    classes = logits.shape[1]
    together = torch.eye(classes, dtype=torch.bool)
    for block in blocks:
        rows = torch.tensor(block)
        together[rows[:, None], rows] = True
    crossed = ~together[labels, logits.argmax(1)]
    return 100.0 * crossed.double().mean().item()
