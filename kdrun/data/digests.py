"""Digests of files, 16 bytes each: a file is read once, and then known by its path, size and time of change.

So a copy of a set of pictures has the same fingerprint, also if its pixels are not in memory, and a second
start does not read all files again. Files that are no pictures are named at once.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdrun.artefacts import locked, open_own, set_aside
from kdrun.data.decode import Picture, each_file, say
from kdrun.data.picture import in_bytes
from kdrun.errors import KdrunError

BLOCK = 4096
"""Files that are read before their digests are written."""

TAIL = 1024
"""Bytes at the end of a JPEG in which its end is marked, unless something is missing."""

RECORD = np.dtype([("key", "<u8"), ("digest", "V16")])

Records = NDArray[np.void]


CACHES = ("images", "sums", "keys", "contents")
"""The files of such folders."""


def place(data_dir: Path, root: Path) -> Path:
    """The folder that keeps the digests of the files in a folder."""
    mark = hashlib.sha256(f"{root.resolve()}".encode(errors="surrogateescape")).hexdigest()[:8]
    return data_dir / "decoded" / f"{root.resolve().name}-contents-{mark}"


def is_place(folder: Path) -> bool:
    """Whether these are caches in a `data_dir`, which can itself be among the pictures."""
    return folder.name == "decoded" and any(folder.glob("*-contents-" + "[0-9a-f]" * 8))


def digests(pictures: Sequence[Picture], folder: Path | None) -> bytes:
    """The digests of the pictures' files, 16 bytes each. folder: keeps them; None: they are not kept. Raises
    KdrunError that names all files that are no pictures, and for a folder that cannot be written.
    """
    keys = np.array([picture.key for picture in pictures], np.uint64)
    if folder is None:
        return _of_keys(keys, np.concatenate([np.empty(0, RECORD), *_read(pictures, keys)]))
    with writable(folder):
        file = folder / "contents"
        known = _known(file)
        absent = np.flatnonzero(~np.isin(keys, known["key"]))
        if len(absent):
            with os.fdopen(open_own(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT), "ab") as records:
                records.truncate(known.nbytes)  # half a record, if a process was stopped
                for block in _read([pictures[row] for row in absent.tolist()], keys[absent]):
                    records.write(block.tobytes())
                    records.flush()
        return _of_keys(keys, _known(file))


@contextmanager
def writable(folder: Path) -> Iterator[None]:
    """Makes the folder and locks it. Raises KdrunError if it cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder):
            for name in CACHES:
                set_aside(folder, name)
            yield
    except OSError as error:
        problem = f"decoded images cannot be kept there ({error.strerror}); dataset.cache=false does without"
        raise KdrunError("data_dir", folder, problem) from error


def _known(file: Path) -> Records:
    """The whole records of a file."""
    if not file.exists():
        return np.empty(0, RECORD)
    content = file.read_bytes()
    return np.frombuffer(content[: len(content) // RECORD.itemsize * RECORD.itemsize], RECORD)


def _of_keys(keys: NDArray[np.uint64], records: Records) -> bytes:
    """The digests of the keys, in their order."""
    order = np.argsort(records["key"], kind="stable")
    return records["digest"][order[np.searchsorted(records["key"], keys, sorter=order)]].tobytes()


def _read(pictures: Sequence[Picture], keys: NDArray[np.uint64]) -> Iterator[Records]:
    """The records of the pictures, in blocks. If there are several, progress goes to stderr."""

    def told(done: int, seconds: float) -> None:
        if len(pictures) > BLOCK:
            text = f"looked into {done:,} of {len(pictures):,} files in {seconds:.0f} s"
            say(text, last=done == len(pictures))

    for first, digests in each_file([picture.path for picture in pictures], _digest, BLOCK, told):
        good = [place for place, digest in enumerate(digests) if digest is not None]
        block = np.empty(len(good), RECORD)
        block["key"] = keys[first : first + BLOCK][good]
        block["digest"] = np.array([digests[place] for place in good], "V16")
        yield block


def _digest(path: str) -> bytes:
    """Raises what Pillow raises for a file that is no whole picture."""
    from PIL import Image

    content = Path(path).read_bytes()
    with Image.open(io.BytesIO(content)) as picture:
        deep = picture.mode in ("I", "F")
        whole = b"\xff\xd9" in content[-TAIL:] if picture.format == "JPEG" else _verified(picture)
    if deep or not whole:
        with Image.open(io.BytesIO(content)) as picture:
            in_bytes(picture, picture.format)
            picture.load()
    return hashlib.blake2b(content, digest_size=16, person=b"deep" if deep else b"").digest()


def _verified(picture: Any) -> bool:
    """Whether the checksums of a PNG are right; other formats have none."""
    if picture.format != "PNG":
        return False
    try:
        picture.verify()
    except Exception:  # it may belong to a part that nobody needs
        return False
    return True
