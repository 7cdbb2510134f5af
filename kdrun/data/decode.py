"""From picture files to squares of one size: read, resized by the shorter side, cut out of the centre."""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kdrun.errors import KdrunError
from kdrun.resources import cores

BLOCK = 2**26
"""Bytes of decoded images that are held before they are handed on."""

Pixels = NDArray[np.uint8]


class Picture(NamedTuple):
    """A file as it was listed: its size in bytes, its time of change in nanoseconds."""

    path: str
    size: int
    changed: int

    @property
    def key(self) -> int:
        """Equal for the same file, unchanged."""
        facts = f"{self.path}\\0{self.size}\\0{self.changed}".encode(errors="surrogateescape")
        return int.from_bytes(hashlib.blake2b(facts, digest_size=8).digest(), "little")


class Square(NamedTuple):
    """What images become. side: in pixels. channels: 3 (colour) or 1 (grey)."""

    side: int
    channels: int

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.channels, self.side, self.side

    @property
    def bytes(self) -> int:
        return self.channels * self.side * self.side


def square(path: str, wanted: Square) -> Pixels:
    """The centre square of a picture file, (C, side, side) uint8.

    The shorter side is resized to `side`, bilinearly, with antialiasing: equal to torchvision's Resize and
    CenterCrop of a Pillow image. Pictures are turned upright as their camera noted. Grey and palette pictures
    become RGB, or all become grey. Raises whatever Pillow raises for a file that it cannot read.
    """
    from PIL import Image, ImageOps

    with Image.open(path) as opened:
        picture = _in_channels(ImageOps.exif_transpose(opened), wanted.channels)
    side, (width, height) = wanted.side, picture.size
    short = min(width, height)
    width, height = int(side * width / short), int(side * height / short)
    if picture.size != (width, height):
        picture = picture.resize((width, height), Image.Resampling.BILINEAR)
    left, top = round((width - side) / 2), round((height - side) / 2)
    pixels = np.asarray(picture.crop((left, top, left + side, top + side)), np.uint8)
    return np.ascontiguousarray(pixels.reshape(side, side, -1).transpose(2, 0, 1))


def middle(read: Callable[[Any], Pixels], side: int, item: Any) -> Pixels:
    """The centre square (C, side, side) of what is read of an item."""
    pixels = read(item)
    top, left = (round((length - side) / 2) for length in pixels.shape[1:])
    return pixels[:, top : top + side, left : left + side]


def picture(wanted: Square, listed: Picture) -> Pixels:
    """The centre square of a listed picture. Raises KdrunError where it cannot be read."""
    try:
        return square(listed.path, wanted)
    # Pillow raises anything from OSError to SyntaxError; all of them mean that this file is none.
    except Exception as error:
        raise unreadable([f"{listed.path} ({reason(error)})"]) from error


def shorter_side(path: str) -> int:
    """In pixels, from the file's head alone. Raises what Pillow raises."""
    from PIL import Image

    with Image.open(path) as picture:
        width, height = picture.size
    return int(min(width, height))


def blocks(files: Sequence[str], wanted: Square) -> Iterator[tuple[list[int], Pixels]]:
    """The images of all files in blocks: their positions among the files, and (B, C, side, side).

    Decoded by a pool of threads: Pillow works without Python's lock. Says on stderr how far it is. Files that
    cannot be read are left out of the blocks, and raise one KdrunError at the end.
    """
    bad: dict[str, str] = {}
    size, started = max(1, BLOCK // wanted.bytes), time.monotonic()

    def read(path: str) -> Pixels | None:
        try:
            return square(path, wanted)
        # Pillow raises anything from OSError to SyntaxError; all of them mean that this file is none.
        except Exception as error:
            bad[path] = reason(error)
            return None

    with ThreadPoolExecutor(cores()) as pool:
        for first in range(0, len(files), size):
            images = enumerate(pool.map(read, files[first : first + size]), first)
            there = {position: image for position, image in images if image is not None}
            if there:
                yield list(there), np.stack(list(there.values()))
            done, seconds = min(first + size, len(files)), time.monotonic() - started
            text = f"decoded {done:,} of {len(files):,} images to {wanted.side}x{wanted.side}"
            say(f"{text} in {seconds:.1f} s", last=done == len(files))
    if bad:
        raise unreadable([f"{path} ({bad[path]})" for path in files if path in bad])


def unreadable(files: Sequence[str], what: str = "cannot be read as images") -> KdrunError:
    """The error that names the first three of some files and says how many there are."""
    shown = ", ".join(files[:3]) + (f" and {len(files) - 3} more" if len(files) > 3 else "")
    count = "1 file" if len(files) == 1 else f"{len(files)} files"
    return KdrunError("dataset.path", None, f"{count} {what}: {shown}. Remove or replace what is named")


def _in_channels(picture: Any, channels: int) -> Any:
    """The picture as RGB or grey. Pillow would cut off what 16 bits have above 8."""
    from PIL import Image

    if picture.mode.startswith("I"):
        picture = Image.fromarray((np.asarray(picture) >> 8).clip(0, 255).astype(np.uint8))
    if picture.mode == "P" and "transparency" in picture.info:
        picture = picture.convert("RGBA")
    mode = "RGB" if channels == 3 else "L"
    return picture if picture.mode == mode else picture.convert(mode)


def reason(error: Exception) -> str:
    from PIL import UnidentifiedImageError

    return "no image" if isinstance(error, UnidentifiedImageError) else str(error).partition("\n")[0][:60]


def say(text: str, last: bool) -> None:
    """One line on stderr: rewritten while it grows on a terminal, else written once at the end."""
    terminal = sys.stderr.isatty()
    if terminal or last:
        print(f"\r{text}" if terminal else text, end="\n" if last else "", file=sys.stderr, flush=True)
