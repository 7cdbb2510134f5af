"""One picture: in 8 bits, in colour or grey, its shorter side resized, its centre cut out. Without torch.

All that looks at pictures comes through here: training, evaluation, `kdrun.load` and `kdrun predict`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Images = TypeVar("Images")
"""An array or a tensor."""

Picture = Any
"""A Pillow picture. Pillow is imported when a picture is read."""

SIXTEEN_BITS = ("PNG", "PPM")
"""Files whose mode `I` holds 16 bits, as some versions of Pillow open them; in other files it holds 32."""


def opened(file: str | Path | Picture) -> Picture:
    """A picture, or that in a file, turned upright as its camera noted, with 8 bits in each channel. Raises
    what Pillow raises for a file that it cannot read, and ValueError as `in_bytes`.
    """
    from PIL import Image, ImageOps

    if not isinstance(file, (str, Path)):
        return in_bytes(ImageOps.exif_transpose(file), file.format)
    with Image.open(file) as picture:
        return in_bytes(ImageOps.exif_transpose(picture), picture.format)


def in_bytes(picture: Picture, kind: str | None = None) -> Picture:
    """The picture with 8 bits in each channel; Pillow itself cuts off more. kind: of its file. Raises
    ValueError for 32-bit integers outside 0 to 255 and floats outside 0 to 1.
    """
    from PIL import Image

    if picture.mode.startswith("I;") or (picture.mode == "I" and kind in SIXTEEN_BITS):
        return Image.fromarray((np.asarray(picture) >> 8).clip(0, 255).astype(np.uint8))
    if picture.mode == "I":
        array = np.asarray(picture)
        if array.min() < 0 or array.max() > 255:
            raise ValueError(f"32-bit integers from {array.min()} to {array.max()}, 0 to 255 are needed")
        return Image.fromarray(array.astype(np.uint8))
    return Image.fromarray(bytes_of(np.asarray(picture))) if picture.mode == "F" else picture


def bytes_of(floats: NDArray[Any]) -> Pixels:
    """Floats from 0 to 1 as bytes. Raises ValueError for others: they are normalised, or of another range."""
    low, high = float(floats.min()), float(floats.max())
    if not (low >= 0 and high <= 1):  # NaN too
        raise ValueError(f"floats from {low:g} to {high:g}, 0 to 1 are needed")
    scaled: Pixels = (floats * 255).round().astype(np.uint8)
    return scaled


def in_channels(picture: Picture, channels: int | None) -> Picture:
    """The picture as RGB (3 channels) or grey (1). None: grey if it is grey, else RGB."""
    if picture.mode == "P" and "transparency" in picture.info:
        picture = picture.convert("RGBA")
    mode = "L" if channels == 1 or (channels is None and picture.mode == "L") else "RGB"
    return picture if picture.mode == mode else picture.convert(mode)


def square(picture: Picture, side: int) -> Picture:
    """The shorter side resized to `side`, bilinearly, with antialiasing; then the centre square. Equal to
    torchvision's Resize and CenterCrop of a Pillow picture.
    """
    width, height = picture.size
    short = min(width, height)
    return _centred(_resized(picture, (int(side * width / short), int(side * height / short))), (side, side))


def covering(picture: Picture, size: tuple[int, int]) -> Picture:
    """The centre of `size` (width, height), of the picture resized so that it just covers that."""
    width, height = picture.size
    scale = max(size[0] / width, size[1] / height)
    resized = max(size[0], int(width * scale)), max(size[1], int(height * scale))
    return _centred(_resized(picture, resized), size)


def as_pixels(picture: Picture) -> Pixels:
    """(C, H, W) uint8."""
    pixels = np.asarray(picture, np.uint8).reshape(picture.height, picture.width, -1)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def centre(images: Images, side: int) -> Images:
    """The centre squares of images (..., H, W): (..., side, side)."""
    whole: Any = images
    top, left = (_margin(length, side) for length in whole.shape[-2:])
    squares: Images = whole[..., top : top + side, left : left + side]
    return squares


def _resized(picture: Picture, size: tuple[int, int]) -> Picture:
    from PIL import Image

    return picture if picture.size == size else picture.resize(size, Image.Resampling.BILINEAR)


def _centred(picture: Picture, size: tuple[int, int]) -> Picture:
    left, top = (_margin(length, part) for length, part in zip(picture.size, size, strict=True))
    return picture.crop((left, top, left + size[0], top + size[1]))


def _margin(length: int, part: int) -> int:
    return round((length - part) / 2)
