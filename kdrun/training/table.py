"""A teacher's answers on disk: one row per (image, view), written once, read by every run that asks again.

A table is a folder: `table.json` (what it holds, written first), `NAME.f32` (rows x width float32, sparse:
only rows that were written take space) and `filled.u8` (one byte a row, set after the row's data has
reached the disk, so that a kill leaves rows that are there or not there). One process at a time writes;
others read what was there when they came.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdrun.artefacts import LOCK, empty, read_json, write_json

FORMAT = 1

Answers = dict[str, NDArray[np.float32]]
"""By layer (`logits`, `embedding`): (rows, width) float32."""


class Table:
    """An open table. writable: whether this process may write; another that came first may hold it.

    rows: images times views. widths: numbers per row of each layer. key: a fingerprint of all that the
    answers depend on.
    """

    def __init__(self, folder: Path, rows: int, widths: Mapping[str, int], key: str) -> None:
        self.folder, self.rows, self.widths = folder, rows, dict(widths)
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
        self.writable = _try_lock(self._lock)
        self.filled: NDArray[np.uint8] = np.empty(0, dtype=np.uint8)
        self.arrays: dict[str, np.memmap[Any, np.dtype[np.float32]]] = {}
        header = {"format": FORMAT, "key": key, "rows": rows, "widths": self.widths}
        self.usable = self._holds(header)
        if not self.usable and self.writable:
            self._start(header)
        if self.usable:
            self._open()

    def has(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """(n,) bool: which of the rows are there."""
        if not self.usable:
            return np.zeros(len(rows), dtype=np.bool_)
        there: NDArray[np.bool_] = self.filled[rows] == 1
        return there

    def read(self, rows: NDArray[np.int64]) -> Answers:
        """Rows that are there, by layer."""
        return {name: np.asarray(array[rows]) for name, array in self.arrays.items()}

    def write(self, rows: NDArray[np.int64], answers: Answers) -> None:
        """Writes rows, data first; without effect where another process holds the table."""
        if not (self.writable and self.usable) or not len(rows):
            return
        for name, array in self.arrays.items():
            array[rows] = answers[name]
            array.flush()
        self.filled[rows] = 1
        if isinstance(self.filled, np.memmap):
            self.filled.flush()

    def some(self, n: int, seed: int) -> NDArray[np.int64]:
        """At most n rows that are there, drawn at random: for checking."""
        if not self.usable:
            return np.empty(0, dtype=np.int64)
        there = np.flatnonzero(self.filled)
        return np.sort(np.random.default_rng(seed).permutation(there)[:n]).astype(np.int64)

    def clear(self) -> None:
        """Forgets all rows; a reader that finds them wrong only stops using them."""
        if not self.writable:
            self.usable = False
            return
        header = read_json(self.folder / "table.json")
        self._start(header)
        self._open()

    def close(self) -> None:
        """Lets another process write."""
        self.arrays, self.filled = {}, np.empty(0, dtype=np.uint8)
        self.usable = False
        os.close(self._lock)

    def _holds(self, header: Mapping[str, Any]) -> bool:
        try:
            sizes = {"filled.u8": self.rows} | {f"{n}.f32": 4 * self.rows * w for n, w in self.widths.items()}
            whole = all((self.folder / name).stat().st_size == size for name, size in sizes.items())
            return bool(whole and read_json(self.folder / "table.json") == header)
        except (OSError, ValueError):
            return False

    def _start(self, header: Mapping[str, Any]) -> None:
        empty(self.folder)
        for name, size in (
            ("filled.u8", self.rows),
            *((f"{n}.f32", 4 * self.rows * w) for n, w in self.widths.items()),
        ):
            with (self.folder / name).open("wb") as file:
                file.truncate(size)
        write_json(self.folder / "table.json", header)
        self.usable = True

    def _open(self) -> None:
        mode: Any = "r+" if self.writable else "r"
        self.filled = np.memmap(self.folder / "filled.u8", dtype=np.uint8, mode=mode, shape=(self.rows,))
        self.arrays = {
            name: np.memmap(
                self.folder / f"{name}.f32", dtype=np.float32, mode=mode, shape=(self.rows, width)
            )
            for name, width in self.widths.items()
        }


def table_bytes(rows: int, widths: Mapping[str, int]) -> int:
    """The size of a table that is full."""
    return rows * (1 + 4 * sum(widths.values()))


def _try_lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
