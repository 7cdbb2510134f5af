"""Whether a model's classes are those of the data: a head that guesses, and one whose classes are in another
order, both show in the confusion of classes and answers.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from kdrun.evaluation.accuracy import confusion_matrix

SURE = 3.0
"""Standard deviations: who only guesses does better than chance by more about once in a thousand times."""

POINTS = 10.0
"""By how many points exchanged classes must beat both the answers as they are and what luck would give."""

GOOD = 50.0
"""A network with a random head comes to 25 to 40 % of ten classes when its answers are exchanged as suits
best: only from here on it is the order that is wrong, and not the head.
"""

SHUFFLES = 5


class Standing(NamedTuple):
    """Percent right of n labelled images: as answered; by always saying the most frequent class; with the
    answers' classes exchanged one to one as suits best; and as that does for the same answers, shuffled.

    exchanged: for each answer, the class that it would stand for, (K,).
    """

    n: int
    top1: float
    guess: float
    relabelled: float
    by_luck: float
    exchanged: tuple[int, ...]

    @property
    def permuted(self) -> bool:
        """Whether the classes seem to be in another order."""
        return self._misplaced and self.relabelled >= GOOD

    @property
    def guesses(self) -> bool:
        """Whether it is no better than one answer to everything, or its head does not fit its features."""
        share = self.guess / 100
        chance = self.guess + 100 * SURE * math.sqrt(share * (1 - share) / self.n)
        return not self.permuted and (self.top1 <= chance or self._misplaced)

    @property
    def _misplaced(self) -> bool:
        return self.relabelled >= POINTS + max(self.top1, self.by_luck)


def standing(logits: Tensor, labels: Tensor) -> Standing | None:
    """A model's standing on labelled images; None without any. Logits (N, K), labels (N,), -1 left out."""
    confusion = confusion_matrix(logits, labels)
    images = int(confusion.sum())
    if not images:
        return None
    exchanged, right = relabelling(confusion)
    known = labels >= 0
    return Standing(
        images,
        100 * int(confusion.diagonal().sum()) / images,
        100 * int(confusion.sum(1).max()) / images,
        100 * right / images,
        100 * _by_luck(logits[known], labels[known]) / images,
        exchanged,
    )


def relabelling(confusion: Tensor) -> tuple[tuple[int, ...], int]:
    """A class for each answer, one to one, chosen greedily by how often they meet; how often they do in all.

    confusion: (K, K) counts, rows are classes, columns answers. Answers that meet no class that is free keep
    what is left over. Where two assignments are equal, the answers' own classes come first.
    """
    count = len(confusion)
    cells = confusion.nonzero().tolist()
    cells.sort(key=lambda cell: (-int(confusion[cell[0], cell[1]]), cell[0] != cell[1]))
    classes: dict[int, int] = {}
    taken: set[int] = set()
    for label, answer in cells:
        if answer not in classes and label not in taken:
            classes[answer] = label
            taken.add(label)
    right = sum(int(confusion[label, answer]) for answer, label in classes.items())
    left = [label for label in range(count) if label not in taken]
    free = [answer for answer in range(count) if answer not in classes]
    classes |= dict(zip(free, left, strict=True))
    return tuple(classes[answer] for answer in range(count)), right


def _by_luck(logits: Tensor, labels: Tensor) -> int:
    """The most that a relabelling gets right where answers have nothing to do with the images."""
    draw = torch.Generator().manual_seed(0)
    shuffled = (logits[torch.randperm(len(logits), generator=draw)] for _ in range(SHUFFLES))
    return max(relabelling(confusion_matrix(answers, labels))[1] for answers in shuffled)
