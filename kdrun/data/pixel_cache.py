"""Decoded images on disk, so that a second run starts at once: a file of records and a file of their keys.

A record's key comes from its file's path, size and time of change. So only images that were added or changed
are decoded, whatever the split.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kdrun.data.decode import Picture, Square, blocks
from kdrun.data.digests import writable
from kdrun.data.picture import Pixels, centre

VERSION = 2
"""Raised if decoding gives a file other pixels than before."""

ROWS = 256
"""How many records are read at once."""

Keys = NDArray[np.uint64]


def place(data_dir: Path, root: Path, wanted: Square) -> Path:
    """The folder that keeps the decoded images of a folder."""
    settings = f"{VERSION} {root.resolve()} {wanted.side} {wanted.channels}".encode(errors="surrogateescape")
    name = f"{root.resolve().name}-{wanted.side}-{hashlib.sha256(settings).hexdigest()[:8]}"
    return data_dir / "decoded" / name


def images(pictures: Sequence[Picture], wanted: Square, side: int, folder: Path | None) -> Tensor:
    """The centre squares of the pictures, (N, C, side, side) uint8.

    folder: keeps the decoded images; None: they are not kept. Raises KdrunError for files that are no images,
    and for a folder that cannot be written.
    """
    squares = torch.empty(len(pictures), wanted.channels, side, side, dtype=torch.uint8)
    if folder is None:
        for rows, block in blocks([picture.path for picture in pictures], wanted):
            squares[rows] = centre(torch.from_numpy(block), side)
        return squares
    with writable(folder):
        _complete(folder, pictures, wanted)
        _copy(folder, pictures, wanted, squares)
    return squares


def _complete(folder: Path, pictures: Sequence[Picture], wanted: Square) -> None:
    """Decodes pictures that have no record yet, and appends each: the record first, then its key."""
    known = _keys(folder, wanted).tolist()
    there = set(known)
    absent = [picture for picture in pictures if picture.key not in there]
    if not absent:
        return
    with (folder / "images").open("ab") as records, (folder / "keys").open("ab") as keys:
        # A process that was stopped may have left half a record.
        records.truncate(len(known) * wanted.bytes)
        keys.truncate(len(known) * 8)
        for rows, block in blocks([picture.path for picture in absent], wanted):
            records.write(block.tobytes())
            records.flush()
            os.fsync(records.fileno())
            keys.write(np.array([absent[row].key for row in rows], np.uint64).tobytes())


def _copy(folder: Path, pictures: Sequence[Picture], wanted: Square, squares: Tensor) -> None:
    """Reads the records of the pictures into `squares`, cut to its size."""
    place_of = {key: at for at, key in enumerate(_keys(folder, wanted).tolist())}
    places = np.array([place_of[picture.key] for picture in pictures], np.int64)
    records: Pixels = np.memmap(folder / "images", np.uint8, "r").reshape(-1, *wanted.shape)
    for first in range(0, len(places), ROWS):
        block = torch.from_numpy(records[places[first : first + ROWS]])
        squares[first : first + ROWS] = centre(block, squares.shape[2])


def _keys(folder: Path, wanted: Square) -> Keys:
    """The keys of the complete records."""
    try:
        size = (folder / "images").stat().st_size
        keys: Keys = np.fromfile(folder / "keys", np.uint64)
    except FileNotFoundError:
        return np.empty(0, np.uint64)
    return keys[: size // wanted.bytes]
