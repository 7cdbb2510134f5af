"""A small reader of MATLAB 5 files: numeric arrays, compressed or not, which is all that SVHN holds.

Format: "MAT-File Format", The MathWorks, level 5. A file is a header of 128 bytes and data elements; an
element is a tag (type and length) and its bytes, padded to 8, or type, length and at most 4 bytes squeezed
into 8.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
MATRIX, COMPRESSED = 14, 15
NUMERIC = range(6, 16)
"""Array classes of plain numbers (double, single, integers); below are cells, structs, text, sparse."""


class Element(NamedTuple):
    """One data element: its type and its bytes."""

    kind: int
    content: bytes


def read_mat(content: bytes) -> dict[str, NDArray[np.generic]]:
    """The numeric arrays of a MATLAB 5 file by name, in MATLAB's shapes. Other variables are left out.

    Raises ValueError, with the problem, where the bytes are no such file.
    """
    if len(content) < 128 or content[126:128] not in (b"IM", b"MI"):
        raise ValueError("not a MATLAB 5 file")
    order = "<" if content[126:128] == b"IM" else ">"
    arrays: dict[str, NDArray[np.generic]] = {}
    try:
        for element in elements(content[128:], order):
            arrays.update(variable(element, order))
    except (struct.error, zlib.error, UnicodeDecodeError) as error:
        raise ValueError(str(error)) from error
    return arrays


def elements(content: bytes, order: str) -> Iterator[Element]:
    """The data elements that lie one after the other in `content`."""
    at = 0
    while at < len(content):
        kind, length = struct.unpack_from(f"{order}II", content, at)
        start = at + 8
        if kind >> 16:  # a small element: length and type share four bytes, the data has the other four
            kind, length, start = kind & 0xFFFF, kind >> 16, at + 4
        if start + length > len(content):
            raise ValueError("it ends too early")
        yield Element(kind, content[start : start + length])
        padding = 0 if kind == COMPRESSED else -(start + length) % 8
        at = start + length + padding


def variable(element: Element, order: str) -> dict[str, NDArray[np.generic]]:
    """A variable as {name: array}; {} where it is not a plain numeric array."""
    if element.kind == COMPRESSED:
        element = next(elements(zlib.decompress(element.content), order))
    if element.kind != MATRIX:
        return {}
    flags, *rest = list(elements(element.content, order))
    if flags.content[0 if order == "<" else 3] not in NUMERIC or len(rest) < 3:
        return {}
    dimensions, name, values = rest[:3]
    shape = [int(size) for size in np.frombuffer(dimensions.content, f"{order}i4")]
    if values.kind not in NUMBERS:
        raise ValueError("an array of an unknown type")
    numbers = np.frombuffer(values.content, f"{order}{NUMBERS[values.kind]}")
    if numbers.size != math.prod(shape):
        raise ValueError(f"{numbers.size} values for {' x '.join(map(str, shape))}")
    return {name.content.decode("ascii"): numbers.reshape(shape, order="F")}
