"""What a test sees of a plot."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


def pixels(path: Path) -> np.ndarray:
    """(height, width, 3) uint8."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def coloured(image: np.ndarray, colour: str) -> int:
    """How many pixels are about of that colour."""
    wanted = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])
    return int((np.abs(image.astype(int) - wanted).max(2) < 12).sum())
