"""thumbnails.npz, beside report.json: the few test images that errors.png and knowledge.png show, with their
figures. Both can then be drawn without the data set and the models.

Arrays by name. errors/rows (E,), parted/rows (P,), knowledge/rows (M,): positions in the test part; each
with `images` (.., C, H, W) uint8 from 0 (black) to 255, at most SIDE pixels wide. taught_by (): the role that
taught the student. knowledge/logits (M, K): its logits. parted: images on which it and the student disagree;
parted/shares (P, 2): their probabilities for their answers; parted/count (): of all such images. entropy
(T, 3): of its soft targets, 10th percentile, mean and 90th percentile over test images, at each of
TEMPERATURES. temperature (): of the loss, NaN without one.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kdrun.report.answers import Arrays, read_arrays, write_arrays
from kdrun.report.soft import entropy, softened

NAME = "thumbnails.npz"
SIDE = 64
"""The largest side of an image that is kept, in pixels."""

ERRORS, PARTED, KNOWLEDGE = 24, 4, 10
"""How many images are kept for each purpose."""

TEMPERATURES = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 20.0)
MOST = 2_000
"""Images over which entropies are taken, evenly spaced."""

Thumbnails = Arrays


def write(folder: Path, images: Thumbnails) -> None:
    """Writes the file; removes an older one if there is nothing to show."""
    if not images:
        (folder / NAME).unlink(missing_ok=True)
        return
    write_arrays(folder / NAME, images)


def read(folder: Path) -> Thumbnails:
    """The thumbnails in a run's folder; empty without the file, or if it cannot be read."""
    return read_arrays(folder / NAME)


def entropies(logits: ArrayLike) -> NDArray[np.float64]:
    """(T, 3): 10th percentile, mean, 90th percentile of the entropy in nats over images, at TEMPERATURES."""
    values = np.asarray(logits)
    values = values[np.isfinite(values).all(-1)][:: max(1, len(values) // MOST)]
    rows = (entropy(softened(values, temperature)) for temperature in TEMPERATURES)
    return np.array([[np.quantile(row, 0.1), row.mean(), np.quantile(row, 0.9)] for row in rows])
