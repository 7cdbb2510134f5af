"""A teacher's answers on disk: a row for each (image, view), written once, read by every later run.

A table is a folder of files that only grow: `table.json` (what it holds, written first), `NAME.f32` or
`NAME.f16` (numbers, a row for each answer, in the order in which they were given) and `codes.i64` (which
image and view each row is about, with the checksum of the row). A row's code is written after its numbers
have reached the disk, so that a kill never leaves half a row. One process at a time writes; others read the
rows that were there when they opened the table.

The lower half of an entry in `codes.i64` is the code, the upper half the CRC-32 of code and numbers. A row is
checked when a process first asks for it; a damaged one counts as missing, and is written anew at the end.
"""

from __future__ import annotations

import mmap
import os
import time
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from kdrun.artefacts import LOCK, empty, open_own, read_json, try_lock, write_json
from kdrun.ranks import Ranks

FORMAT = 3
NUMBERS: dict[str, tuple[str, np.dtype[Any]]] = {
    "fp32": ("f32", np.dtype(np.float32)),
    "fp16": ("f16", np.dtype(np.float16)),
}
CODE = np.dtype(np.int64)
HALF = 32
"""Bits of an entry that hold the code; the others hold the checksum."""

STRUCK_OUT = 2**HALF - 1
"""The code of a row that counts no more."""

SECONDS = 10.0
"""How long new rows may wait for the disk: a kill loses them, but waiting for the disk takes time."""

Answers = dict[str, NDArray[Any]]
"""By layer (`logits`, `embedding`): (rows, width)."""


class AnswerTable:
    """An open table. writable: whether this process may write; another one may hold the lock.

    codes: how many there are, images times views; a code is `image * views + view`. widths: numbers in a row
    of each layer. key: a fingerprint of all that the answers depend on. numbers: fp32 or fp16. count: rows
    that are there. say: told in one line what is damaged or of an earlier version.
    """

    def __init__(
        self,
        folder: Path,
        codes: int,
        widths: Mapping[str, int],
        key: str,
        numbers: str = "fp32",
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.folder, self.widths, self.numbers, self.count = folder, dict(widths), numbers, 0
        self.say, (self.suffix, self.dtype) = say, NUMBERS[numbers]
        self._header = {
            "format": FORMAT,
            "key": key,
            "codes": codes,
            "widths": self.widths,
            "numbers": numbers,
        }
        self._places = np.full(codes, -1, dtype=np.int32)
        self._checked = np.zeros(codes, dtype=np.bool_)
        self._sums = np.zeros(codes, dtype=np.uint32)
        self._files: dict[str, int] = {}
        self._maps: Answers = {}
        self._waiting: list[NDArray[np.int64]] = []
        self._synced = time.monotonic()
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = open_own(folder / LOCK, os.O_RDWR | os.O_CREAT)
        self.writable = try_lock(self._lock)
        if self._is_mine():
            self._open()
        elif self.writable:
            if (folder / "table.json").exists():
                say(f"cache   {folder / 'table.json'}: is damaged or of another version; made anew")
            self.clear()

    def __len__(self) -> int:
        """How many rows there are when it is full."""
        return len(self._places)

    def has(self, codes: NDArray[np.int64]) -> NDArray[np.bool_]:
        """(n,) bool: which of the codes have a row. A damaged row is said, and counts as missing."""
        self._check(codes[(self._places[codes] >= 0) & ~self._checked[codes]])
        there: NDArray[np.bool_] = self._places[codes] >= 0
        return there

    def read(self, codes: NDArray[np.int64]) -> Answers:
        """The rows of codes that are there, by layer."""
        at = self._places[codes]
        return {name: np.take(self._mapped(name), at, axis=0) for name in self.widths}

    def write(self, codes: NDArray[np.int64], answers: Answers) -> None:
        """Adds rows; does nothing if another process may write, or the disk is full."""
        if not self.writable or not len(codes):
            return
        rows = {name: answers[name].astype(self.dtype, copy=False) for name in self.widths}
        try:
            for name in self.widths:
                _append(self._files[name], rows[name])
        except OSError:  # what was begun is cut off when the table is opened again
            self.writable = False
            return
        self._places[codes] = np.arange(self.count, self.count + len(codes), dtype=np.int32)
        self.count += len(codes)
        self._maps.clear()
        self._checked[codes] = True
        self._waiting.append(codes | checksums(codes, rows).astype(np.int64) << HALF)
        if time.monotonic() - self._synced > SECONDS:
            self.sync()

    def sync(self) -> None:
        """Makes what was written count: numbers first, then codes."""
        codes, self._waiting, self._synced = self._waiting, [], time.monotonic()
        if not codes:
            return
        try:
            for name in self.widths:
                os.fsync(self._files[name])
            _append(self._files["codes"], np.concatenate(codes))
            os.fsync(self._files["codes"])
        except OSError:
            self.writable = False

    def some(self, most: int, seed: int) -> NDArray[np.int64]:
        """At most `most` stored codes, drawn at random, for a check."""
        there = np.flatnonzero(self._places >= 0)
        drawn = np.sort(np.random.default_rng(seed).permutation(there)[:most]).astype(np.int64)
        return drawn[self.has(drawn)]

    def stored(self) -> NDArray[np.int64]:
        """The codes of all rows, in the order of the files."""
        there = np.flatnonzero(self._places >= 0)
        return there[self._places[there].argsort()].astype(np.int64)

    def clear(self) -> None:
        """Drops all rows; without the right to write it only stops using them."""
        self._forget()
        if self.writable:
            empty(self.folder)
            write_json(self.folder / "table.json", self._header)
            self._open()

    def close(self) -> None:
        """Lets another process write."""
        self.sync()
        self._forget()
        self.writable = False
        os.close(self._lock)

    def _is_mine(self) -> bool:
        if any(self._path(name).is_dir() for name in ("codes", *self.widths)):
            return False
        try:
            return bool(read_json(self.folder / "table.json") == self._header)
        except (OSError, ValueError):
            return False

    def _open(self) -> None:
        """Opens the files for good: a reader keeps them, even if a writer begins anew."""
        sizes = {"codes": CODE.itemsize} | {n: self.dtype.itemsize * w for n, w in self.widths.items()}
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT if self.writable else os.O_RDONLY
        try:
            for name in sizes:
                self._files[name] = open_own(self._path(name), flags)
        except FileNotFoundError:  # a writer has just begun, or someone removed it
            return
        count = min(os.fstat(self._files[name]).st_size // size for name, size in sizes.items())
        entries = np.frombuffer(os.pread(self._files["codes"], count * CODE.itemsize, 0), dtype=CODE)
        self.count, codes = len(entries), entries & (2**HALF - 1)
        known = np.flatnonzero(codes < len(self._places))
        wrong = np.flatnonzero((codes >= len(self._places)) & (codes != STRUCK_OUT))
        if len(wrong):
            self.say(_damaged(self._path("codes"), len(wrong)))
            self._strike_out(wrong)
        self._places[codes[known]] = known
        self._sums[codes[known]] = entries[known] >> HALF & (2**HALF - 1)
        if self.writable:
            for name, size in sizes.items():
                os.ftruncate(self._files[name], self.count * size)

    def _strike_out(self, places: NDArray[np.int64]) -> None:
        """Marks rows whose codes are damaged, so that they are said once."""
        if self.writable:
            handle = open_own(self._path("codes"), os.O_RDWR)  # the files that are open only append
            with os.fdopen(handle, "r+b") as file:
                for place in places.tolist():
                    file.seek(place * CODE.itemsize)
                    file.write(CODE.type(STRUCK_OUT).tobytes())

    def _check(self, codes: NDArray[np.int64]) -> None:
        """Compares rows with their checksums, and forgets those that differ."""
        if not len(codes):
            return
        self._checked[codes] = True
        wrong = codes[checksums(codes, self.read(codes)) != self._sums[codes]]
        if len(wrong):
            self.say(_damaged(self._path(next(iter(self.widths))), len(np.unique(wrong))))
            self._places[wrong] = -1

    def _forget(self) -> None:
        self._places.fill(-1)
        self._checked.fill(False)
        self._maps.clear()
        self._waiting.clear()
        for file in self._files.values():
            os.close(file)
        self._files, self.count = {}, 0

    def _path(self, name: str) -> Path:
        return self.folder / ("codes.i64" if name == "codes" else f"{name}.{self.suffix}")

    def _mapped(self, name: str) -> NDArray[Any]:
        if name not in self._maps:
            size = self.count * self.widths[name] * self.dtype.itemsize
            content = mmap.mmap(self._files[name], size, access=mmap.ACCESS_READ)
            self._maps[name] = np.frombuffer(content, dtype=self.dtype).reshape(-1, self.widths[name])
        return self._maps[name]


class SharedTable:
    """Like `AnswerTable`, of rank 0 for all ranks, which make the same calls: the others need no disk.

    open_table: called on rank 0.
    """

    def __init__(
        self,
        ranks: Ranks,
        open_table: Callable[[], AnswerTable],
        codes: int,
        widths: Mapping[str, int],
        numbers: str,
    ) -> None:
        self.ranks, self.codes, self.widths, self.numbers = ranks, codes, dict(widths), numbers
        self.table = open_table() if ranks.leads else None

    def __len__(self) -> int:
        return self.codes

    def has(self, codes: NDArray[np.int64]) -> NDArray[np.bool_]:
        """As `Table.has`."""
        there: NDArray[np.bool_] = self._shared(lambda table: {"": table.has(codes)})[""]
        return there

    def read(self, codes: NDArray[np.int64]) -> Answers:
        """As `Table.read`."""
        return self._shared(lambda table: table.read(codes))

    def some(self, most: int, seed: int) -> NDArray[np.int64]:
        """As `Table.some`."""
        codes: NDArray[np.int64] = self._shared(lambda table: {"": table.some(most, seed)})[""]
        return codes

    def stored(self) -> NDArray[np.int64]:
        """As `Table.stored`."""
        codes: NDArray[np.int64] = self._shared(lambda table: {"": table.stored()})[""]
        return codes

    def write(self, codes: NDArray[np.int64], answers: Answers) -> None:
        """As `Table.write`, on rank 0."""
        if self.table is not None:
            self.table.write(codes, answers)

    def close(self) -> None:
        """As `Table.close`, on rank 0."""
        if self.table is not None:
            self.table.close()

    def _shared(self, read: Callable[[AnswerTable], Answers]) -> Answers:
        """What rank 0 reads."""

        def here() -> dict[str, torch.Tensor]:
            assert self.table is not None
            return {name: torch.from_numpy(rows) for name, rows in read(self.table).items()}

        return {name: rows.numpy() for name, rows in self.ranks.shared(here).items()}


def table_bytes(codes: int, widths: Mapping[str, int], numbers: str = "fp32") -> int:
    """The size of a table that is full."""
    return codes * (CODE.itemsize + NUMBERS[numbers][1].itemsize * sum(widths.values()))


def checksums(codes: NDArray[np.int64], answers: Answers) -> NDArray[np.uint32]:
    """(n,): the CRC-32 of each code with its numbers."""
    parts = [codes, *answers.values()]
    whole = [np.ascontiguousarray(part).view(np.uint8).reshape(len(codes), -1) for part in parts]
    return np.array([zlib.crc32(row) for row in np.concatenate(whole, axis=1)], dtype=np.uint32)


def _damaged(path: Path, rows: int) -> str:
    return f"cache   {path}: is damaged (checksum of {rows} rows); asked for anew"


def _append(file: int, array: NDArray[Any]) -> None:
    content = memoryview(array.tobytes())
    while content:
        content = content[os.write(file, content) :]
