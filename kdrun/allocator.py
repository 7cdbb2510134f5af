"""The C library's allocator, set to keep what a training step frees: the next step needs the same again."""

from __future__ import annotations

import ctypes
import platform

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Parameters of `mallopt`, as glibc's malloc.h numbers them."""

UNTRIMMED = 2**31 - 1
MAPPED_ABOVE = (2**30, 2**25)
"""Bytes from which a block is a mapping of its own; glibc before 2.35 takes no more than the second."""


def keep_memory() -> bool:
    """Makes malloc reuse large blocks within the process; says whether it does. Only glibc needs it.

    By itself, glibc maps every block above 32 MB (at first above 128 kB) anew and gives it back when it is
    freed, and the system zeroes each of its pages again: in large batches, half of a forward on a CPU. The
    price is that the process keeps the most memory it ever had.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    untrimmed = bool(mallopt(M_TRIM_THRESHOLD, UNTRIMMED))
    return any(mallopt(M_MMAP_THRESHOLD, size) for size in MAPPED_ABOVE) and untrimmed
