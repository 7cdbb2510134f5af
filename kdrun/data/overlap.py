"""Images that one data set trains on and another holds out: then figures on the latter are too good."""

from __future__ import annotations

from kdrun.data.images import ImageSet, Part
from kdrun.data.lazy import Unread
from kdrun.data.load import files_of
from kdrun.data.pool import as_seen, digest

_counted: dict[tuple[str, str], dict[str, int]] = {}
"""By the fingerprints of both data sets: the jobs of a sweep ask about the same ones."""


def overlap(trained: ImageSet, ours: ImageSet) -> dict[str, int]:
    """How many images of `validation` and `test` of our data set are labelled training images of the other,
    by their files or else their pixels, in the size and the channels of ours. Images that are changed in
    another way are not found. Empty if both are the same data.
    """
    if trained.fingerprint == ours.fingerprint:
        return {}
    key = trained.fingerprint, ours.fingerprint
    if key not in _counted:
        known = _marks(trained.train, trained, ours, labelled=True)
        held = {"validation": ours.validation, "test": ours.test}
        _counted[key] = {
            name: sum(mark in known for mark in _marks(part, ours, ours)) for name, part in held.items()
        }
    return dict(_counted[key])


def _marks(part: Part, own: ImageSet, ours: ImageSet, labelled: bool = False) -> list[str | bytes]:
    """What an image is known by, of each image of a part, or of each that carries a label."""
    rows = (part.labels >= 0).nonzero()[:, 0].tolist() if labelled else range(len(part.labels))
    if isinstance(part.images, Unread):
        files = files_of(part.images)
        return [files[row] for row in rows] if files else []
    images = as_seen(part.images, ours.image_shape, own.white, ours.white)
    return [digest(images[row]) for row in rows]
