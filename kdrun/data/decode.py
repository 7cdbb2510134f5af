"""From picture files to squares of one size: read, resized by the shorter side, cut out of the centre."""

from __future__ import annotations

import hashlib
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple, TypeVar

import numpy as np

from kdrun.data.picture import Pixels, as_pixels, centre, in_channels, opened, square
from kdrun.errors import KdrunError
from kdrun.figures import listed
from kdrun.resources import cores

Part = TypeVar("Part")
Result = TypeVar("Result")

BLOCK = 2**26
"""Bytes of decoded images in a block."""


class Picture(NamedTuple):
    """A listed file: its size in bytes, its time of change in nanoseconds."""

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


def decoded(path: str, wanted: Square) -> Pixels:
    """The centre square of a picture file, (C, side, side) uint8. Raises as `kdrun.data.picture.opened`."""
    return as_pixels(square(in_channels(opened(path), wanted.channels), wanted.side))


def middle(read: Callable[[Any], Pixels], side: int, item: Any) -> Pixels:
    """The centre square (C, side, side) of what is read of an item."""
    return centre(read(item), side)


def picture(wanted: Square, listed: Picture) -> Pixels:
    """The centre square of a listed picture. Raises KdrunError if it cannot be read."""
    try:
        return decoded(listed.path, wanted)
    # Pillow raises anything from OSError to SyntaxError; all of them mean that this file is no picture.
    except Exception as error:
        raise unreadable([f"{listed.path} ({reason(error, listed.path)})"]) from error


def shorter_side(path: str) -> int:
    """In pixels, from the file's head alone. Raises what Pillow raises."""
    from PIL import Image

    with Image.open(path) as picture:
        width, height = picture.size
    return int(min(width, height))


def each_file(
    files: Sequence[str], read: Callable[[str], Result], size: int, told: Callable[[int, float], None]
) -> Iterator[tuple[int, list[Result | None]]]:
    """What is read of all files, in blocks of `size`: the number of the first, and a result or None for each.
    Threads read, since Pillow works without Python's lock. told: called after a block with the files that are
    done, and seconds. Raises one KdrunError at the end for the files that cannot be read.
    """
    bad: dict[str, str] = {}
    started = time.monotonic()

    def attempt(path: str) -> Result | None:
        try:
            return read(path)
        # Pillow raises anything from OSError to SyntaxError; all of them mean that this file is no picture.
        except Exception as error:
            bad[path] = reason(error, path)
            return None

    with ThreadPoolExecutor(cores()) as pool:
        for first in range(0, len(files), size):
            yield first, list(pool.map(attempt, files[first : first + size]))
            told(min(first + size, len(files)), time.monotonic() - started)
    if bad:
        raise unreadable([f"{path} ({bad[path]})" for path in files if path in bad])


def blocks(files: Sequence[str], wanted: Square) -> Iterator[tuple[list[int], Pixels]]:
    """The images of all files in blocks: their positions among the files, and (B, C, side, side). Progress
    goes to stderr. Files that cannot be read are left out, and raise one KdrunError at the end.
    """

    def told(done: int, seconds: float) -> None:
        text = f"decoded {done:,} of {len(files):,} images to {wanted.side}x{wanted.side}"
        say(f"{text} in {seconds:.1f} s", last=done == len(files))

    size = max(1, BLOCK // wanted.bytes)
    for first, images in each_file(files, partial(decoded, wanted=wanted), size, told):
        there = {position: image for position, image in enumerate(images, first) if image is not None}
        if there:
            yield list(there), np.stack(list(there.values()))


class Unreadable(KdrunError):
    """Files that are no pictures, each with the reason."""

    files: tuple[str, ...] = ()


def unreadable(files: Sequence[str]) -> Unreadable:
    """The error that names the first three of some files and says how many there are."""
    count = "1 file" if len(files) == 1 else f"{len(files)} files"
    problem = f"{count} cannot be read as images: {listed(files, 3)}. Remove or replace what is named"
    error = Unreadable("dataset.path", None, problem)
    error.files = tuple(files)
    return error


def of_all(read: Callable[[Part], Result], parts: Iterable[Part]) -> list[Result]:
    """What is read of each part. Raises one error for the files of all parts that cannot be read."""
    results, bad = list[Result](), list[str]()
    for part in parts:
        try:
            results.append(read(part))
        except Unreadable as error:
            bad += error.files
    if bad:
        raise unreadable(bad)
    return results


def reason(error: Exception, path: str) -> str:
    """Why a file is no picture, in a few words."""
    from PIL import UnidentifiedImageError

    if isinstance(error, FileNotFoundError):
        return "no such file"
    if os.path.isfile(path) and os.path.getsize(path) == 0:
        return "empty"
    return "no image" if isinstance(error, UnidentifiedImageError) else str(error).partition("\n")[0][:60]


def say(text: str, last: bool) -> None:
    """One line on stderr: rewritten in place on a terminal, otherwise written once at the end."""
    terminal = sys.stderr.isatty()
    if terminal or last:
        print(f"\r{text}" if terminal else text, end="\n" if last else "", file=sys.stderr, flush=True)
