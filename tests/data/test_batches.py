from __future__ import annotations

import pytest

from kdrun.data.batches import batch_size


@pytest.mark.parametrize(
    ("pixels", "image_bytes", "kind", "size"),
    [
        (64, 0, "cpu", 16384),  # 8x8 grey
        (64, 16640, "cpu", 16131),  # the digits' teacher: more than there are digits
        (3 * 32 * 32, 600_000, "cpu", 341),
        (28 * 28, 634_944, "cpu", 422),  # Keras' teacher: 1337 by its pixels
        (3 * 224 * 224, 11_000_000, "cpu", 6),
        (3 * 32 * 32, 600_000, "cuda", 7158),
        (64, 10**12, "cpu", 1),
        (10**9, 0, "mps", 1),
    ],
)
def test_evaluation_batches_are_bound_by_pixels_and_by_activations(
    pixels: int, image_bytes: int, kind: str, size: int
) -> None:
    assert batch_size(pixels, image_bytes, kind) == size
