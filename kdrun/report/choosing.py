"""The best of several, chosen on validation, and the selection bias of its figure on validation."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kdrun.report.statistics import noise_of

DRAWS = 2_000
CHUNK = 100
"""Draws at once. Each draw has a weight for every image, so this limits the memory."""


class Winner(NamedTuple):
    """position: of the best by its mean over seeds on validation, which is `shown`. bias: by how much `shown`
    is too high because it was chosen, in the same unit. holds: what the bias was estimated from."""

    position: int
    shown: float
    bias: float
    holds: str


def winner(
    correct: ArrayLike, draws: int = DRAWS, splits: Sequence[Hashable] | None = None, noun: str = "seed"
) -> Winner:
    """The best of k and its bias in points, from answers that are right or wrong.

    correct: (k, seeds, images) of 0 and 1, the same seeds and validation images for each. Each draw takes
    seeds and images with replacement, the same for all k, so that common noise cancels out. It chooses the
    best again. The bias is the mean over draws of this best's value in the draw minus its value here
    (Tibshirani and Tibshirani 2009, by the bootstrap of Efron 1979). The figure to report is the one on test,
    which chose nothing. splits: the split of each seed, if splits have different validation images; seeds of
    one split share the draw of images. noun: what a seed is called.
    """
    right = np.asarray(correct, dtype=np.float64)
    seeds, images = right.shape[1:]
    here = 100 * right.mean((1, 2))
    splits = [0] * seeds if splits is None else list(splits)
    groups = [[i for i, own in enumerate(splits) if own == split] for split in dict.fromkeys(splits)]
    source = np.random.default_rng(0)
    parts = [min(CHUNK, draws - first) for first in range(0, draws, CHUNK)]
    drawn = np.concatenate([_drawn(right, groups, count, source) for count in parts])
    best = drawn.argmax(1)
    excess = drawn[np.arange(draws), best] - here[best]
    return _winner(here, excess.tolist(), noise_of(seeds, images, noun=noun))


def _drawn(
    right: NDArray[np.float64], groups: Sequence[Sequence[int]], count: int, source: np.random.Generator
) -> NDArray[np.float64]:
    """(count, k) means in percent of `right` (k, seeds, images), each over new draws of seeds and images.

    groups: positions of the seeds that share their validation images.
    """
    k, seeds, images = right.shape
    by_seed = source.multinomial(seeds, np.full(seeds, 1 / seeds), size=count) / seeds
    total = np.zeros((count, k))
    for own in groups:
        by_image = source.multinomial(images, np.full(images, 1 / images), size=count) / images
        means = by_image @ right[:, own].reshape(k * len(own), images).T
        total += np.einsum("cks,cs->ck", means.reshape(count, k, len(own)), by_seed[:, own])
    return 100 * total


def winner_of_means(accuracy: ArrayLike, images: int, noun: str = "seed") -> Winner:
    """The same if only accuracies in percent are known: (k, seeds).

    Seeds are drawn with replacement. The noise of the images is normal with variance p (1 - p) / images, and
    independent for each of the k. In truth they share the images, so a part of the noise cancels out: this
    bias is an upper bound.
    """
    values = np.asarray(accuracy, dtype=np.float64)
    k, seeds = values.shape
    here = values.mean(1)
    share = here / 100
    sampling = 100 * np.sqrt(share * (1 - share) / images)
    source = np.random.default_rng(0)
    excess = []
    for _ in range(DRAWS):
        by_seed = source.multinomial(seeds, np.full(seeds, 1 / seeds)) / seeds
        drawn = values @ by_seed + sampling * source.standard_normal(k)
        excess.append(float(drawn.max() - here[drawn.argmax()]))
    return _winner(here, excess, f"{noise_of(seeds, images, noun=noun)}; an upper bound")


def _winner(here: NDArray[np.float64], excess: list[float], holds: str) -> Winner:
    best = int(here.argmax())
    return Winner(best, float(here[best]), max(0.0, float(np.mean(excess))), holds)
