"""A folder of pictures for tests of data that is read as it is needed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


def write_pictures(suffix: str) -> None:
    """Forty pictures of noise, 12x14, of the classes a and b, in `pictures` of the working folder."""
    for seed in range(40):
        pixels = np.random.RandomState(seed).randint(0, 256, (12, 14, 3)).astype(np.uint8)
        path = Path("pictures") / "ab"[seed % 2] / f"{seed}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
