"""Pickles, read without running what they say: only plain values and arrays of bytes come out."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


class StoredType:
    """Stands in for `numpy.dtype` while a pickle is read: its code, nothing else."""

    def __init__(self, code: str | bytes, *_: object) -> None:
        self.code = code.decode() if isinstance(code, bytes) else code

    def __setstate__(self, state: object) -> None:
        """Byte order and alignment, which single bytes do not have."""


class StoredArray:
    """Stands in for `numpy.ndarray` while a pickle is read: keeps what it says, for `array` to check."""

    shape: Any = None
    dtype: Any = None
    column_major: Any = None
    content: Any = None

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        _, self.shape, self.dtype, self.column_major, self.content = state


def latin1(text: str, _: object) -> bytes:
    """Stands in for `_codecs.encode`, by which Python 3 writes bytes for Python 2."""
    return text.encode("latin1")


STAND_INS: dict[tuple[str, str], object] = {
    ("numpy.core.multiarray", "_reconstruct"): StoredArray,
    ("numpy._core.multiarray", "_reconstruct"): StoredArray,
    ("numpy", "ndarray"): "ndarray",
    ("numpy", "dtype"): StoredType,
    ("_codecs", "encode"): latin1,
}


class PlainUnpickler(pickle._Unpickler):
    """An unpickler for which nothing can be imported: not even numpy's own code is called by a file.

    In Python rather than in C: as fast here, where one array is nearly all of a file, and it does not fill
    the memory when a damaged file numbers its values in billions.
    """

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in STAND_INS:
            raise pickle.UnpicklingError(f"it asks to run {module}.{name}")
        return STAND_INS[module, name]


def read_pickle(path: Path) -> dict[str, Any]:
    """The dictionary in a pickle of numbers, text, containers and arrays of bytes (uint8).

    Raises OSError where the file cannot be read, and ValueError, with the problem, where it is anything else.
    """
    with path.open("rb") as stream:
        try:
            found = PlainUnpickler(stream, encoding="bytes").load()
        except OSError:
            raise
        # Random bytes make an unpickler raise nearly anything: KeyError, TypeError, MemoryError ...
        except Exception as error:
            raise ValueError(str(error) or type(error).__name__) from error
    if not isinstance(found, dict):
        raise ValueError("it holds no dictionary")
    return {
        key.decode("latin1") if isinstance(key, bytes) else str(key): value for key, value in found.items()
    }


def array(value: object) -> NDArray[np.uint8]:
    """An array of bytes as it was stored. Raises ValueError for any other value."""
    if not isinstance(value, StoredArray) or not isinstance(value.dtype, StoredType):
        raise ValueError("no array where one is expected")
    if value.dtype.code != "u1" or value.column_major or not isinstance(value.content, bytes):
        raise ValueError("an array of another kind than bytes in row order")
    pixels: NDArray[np.uint8] = np.frombuffer(value.content, np.uint8).reshape(value.shape).copy()
    return pixels
