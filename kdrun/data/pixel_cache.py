"""Decoded images on disk, so that a second run starts at once: a file of records, of their checksums
and of their keys.

A record's key comes from its file's path, size and time of change. So only images that were added or changed
are decoded, whatever the split. Each record is compared with its CRC-32 when it is read; a damaged one is
decoded anew.
"""

from __future__ import annotations

import hashlib
import os
import sys
import zlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kdrun.artefacts import LOCK, open_own
from kdrun.data.decode import Picture, Square, blocks
from kdrun.data.digests import writable
from kdrun.data.picture import Pixels, centre

VERSION = 2
"""Raised if decoding gives a file other pixels than before."""

ROWS = 256
"""How many records are read at once."""

Keys = NDArray[np.uint64]


FILES = ("images", "sums", "keys")


def place(data_dir: Path, root: Path, wanted: Square) -> Path:
    """The folder that keeps the decoded images of a folder."""
    return data_dir / "decoded" / _name(VERSION, root, wanted)


def decoded(data_dir: Path) -> list[Path]:
    """The folders with decoded images of all data sets."""
    return sorted((data_dir / "decoded").glob("*"))


def remove_older(data_dir: Path, root: Path, wanted: Square) -> None:
    """Removes what earlier versions kept of the same images, which nobody reads, and nothing else."""
    for version in range(1, VERSION):
        folder = data_dir / "decoded" / _name(version, root, wanted)
        with suppress(OSError):
            for name in (*FILES, LOCK):
                (folder / name).unlink(missing_ok=True)
            folder.rmdir()


def _name(version: int, root: Path, wanted: Square) -> str:
    settings = f"{version} {root.resolve()} {wanted.side} {wanted.channels}".encode(errors="surrogateescape")
    return f"{root.resolve().name}-{wanted.side}-{hashlib.sha256(settings).hexdigest()[:8]}"


def images(pictures: Sequence[Picture], wanted: Square, side: int, folder: Path | None) -> Tensor:
    """The centre squares of the pictures, (N, C, side, side) uint8. folder: keeps the decoded images; None:
    not kept. Raises KdrunError for files that are no images, and for a folder that cannot be written.
    """
    squares = torch.empty(len(pictures), wanted.channels, side, side, dtype=torch.uint8)
    if folder is None:
        for rows, block in blocks([picture.path for picture in pictures], wanted):
            squares[rows] = centre(torch.from_numpy(block), side)
        return squares
    with writable(folder):
        _complete(folder, pictures, wanted)
        if damaged := _copy(folder, pictures, wanted, squares):
            problem = f"is damaged (checksum of {len(damaged)} images); decoded anew"
            print(f"{folder / 'images'}: {problem}", file=sys.stderr)
            _renew(folder, damaged, wanted)
            _copy(folder, pictures, wanted, squares)
    return squares


def _complete(folder: Path, pictures: Sequence[Picture], wanted: Square) -> None:
    """Decodes pictures that have no record, and appends each: the record, then its checksum and its key."""
    known = _keys(folder, wanted).tolist()
    there = set(known)
    absent = [picture for picture in pictures if picture.key not in there]
    if not absent:
        return
    with (
        _appended(folder / "images") as records,
        _appended(folder / "sums") as sums,
        _appended(folder / "keys") as keys,
    ):
        # A process that was stopped may have left half a record.
        records.truncate(len(known) * wanted.bytes)
        sums.truncate(len(known) * 4)
        keys.truncate(len(known) * 8)
        for rows, block in blocks([picture.path for picture in absent], wanted):
            records.write(block.tobytes())
            sums.write(_sums([absent[row].key for row in rows], block).tobytes())
            records.flush()
            sums.flush()
            os.fsync(records.fileno())
            os.fsync(sums.fileno())
            keys.write(np.array([absent[row].key for row in rows], np.uint64).tobytes())


def _appended(path: Path) -> IO[bytes]:
    """Opens a file of records to append to it; not through a link, for which it raises KdrunError."""
    return os.fdopen(open_own(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT), "ab")


def _changed(path: Path) -> IO[bytes]:
    """The same, to write over records."""
    return os.fdopen(open_own(path, os.O_RDWR), "r+b")


def _renew(folder: Path, damaged: dict[int, Picture], wanted: Square) -> None:
    """Decodes pictures again, each to its place among the records."""
    places = list(damaged)
    with _changed(folder / "images") as records, _changed(folder / "sums") as sums:
        for rows, block in blocks([picture.path for picture in damaged.values()], wanted):
            at = [places[row] for row in rows]
            for place, image in zip(at, block, strict=True):
                records.seek(place * wanted.bytes)
                records.write(image.tobytes())
                sums.seek(place * 4)
                sums.write(_sums([damaged[place].key], image[None]).tobytes())


def _sums(keys: Sequence[int], images: Pixels) -> NDArray[np.uint32]:
    """(N,): the CRC-32 of each image with its key."""
    pairs = zip(keys, images, strict=True)
    each = [zlib.crc32(np.ascontiguousarray(image).data, key & 0xFFFFFFFF) for key, image in pairs]
    return np.array(each, np.uint32)


def _copy(folder: Path, pictures: Sequence[Picture], wanted: Square, squares: Tensor) -> dict[int, Picture]:
    """Reads the records of the pictures into `squares`, cut to its size. Returns damaged ones, by place."""
    place_of = {key: at for at, key in enumerate(_keys(folder, wanted).tolist())}
    places = np.array([place_of[picture.key] for picture in pictures], np.int64)
    records: Pixels = np.memmap(folder / "images", np.uint8, "r").reshape(-1, *wanted.shape)
    sums, damaged = np.fromfile(folder / "sums", np.uint32), dict[int, Picture]()
    for first in range(0, len(places), ROWS):
        at, part = places[first : first + ROWS], pictures[first : first + ROWS]
        block = records[at]
        wrong = _sums([picture.key for picture in part], block) != sums[at]
        damaged |= {int(at[row]): part[row] for row in np.flatnonzero(wrong).tolist()}
        squares[first : first + ROWS] = centre(torch.from_numpy(block), squares.shape[2])
    return damaged


def _keys(folder: Path, wanted: Square) -> Keys:
    """The keys of the complete records. Records of earlier versions have no checksums, so they are none."""
    try:
        count = (folder / "images").stat().st_size // wanted.bytes
        count = min(count, (folder / "sums").stat().st_size // 4)
        keys: Keys = np.fromfile(folder / "keys", np.uint64)
    except FileNotFoundError:
        return np.empty(0, np.uint64)
    return keys[:count]
