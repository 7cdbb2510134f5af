"""Large blocks that are freed stay in the process, where the C library can do that."""

from __future__ import annotations

import ctypes
import platform
import subprocess
import sys
from types import SimpleNamespace

import pytest

from kdrun.allocator import M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, keep_memory

FAULTS = """
import resource
from kdrun.allocator import keep_memory

def faults(times):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(times):
        b"x" * 2**26
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

mapped = faults(5)
kept = keep_memory()
faults(1)
print(kept, mapped, faults(5))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_the_pages_of_a_freed_block_are_used_again() -> None:
    child = subprocess.run([sys.executable, "-c", FAULTS], check=True, capture_output=True, text=True)
    kept, mapped, after = child.stdout.split()
    assert kept == "True"
    assert int(after) * 10 < int(mapped)


def test_other_libraries_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr(ctypes, "CDLL", lambda name: pytest.fail("no library is to be opened"))
    assert not keep_memory()


@pytest.mark.parametrize(("most", "taken"), [(2**30, 2**30), (2**25, 2**25), (2**20, None)])
def test_the_largest_limit_that_is_taken_holds(
    monkeypatch: pytest.MonkeyPatch, most: int, taken: int | None
) -> None:
    limits: dict[int, int] = {}

    def mallopt(parameter: int, value: int) -> int:
        if parameter == M_MMAP_THRESHOLD and value > most:
            return 0
        limits[parameter] = value
        return 1

    monkeypatch.setattr(platform, "libc_ver", lambda: ("glibc", "2.31"))
    monkeypatch.setattr(ctypes, "CDLL", lambda name: SimpleNamespace(mallopt=mallopt))
    assert keep_memory() is (taken is not None)
    assert limits.get(M_MMAP_THRESHOLD) == taken and limits[M_TRIM_THRESHOLD] == 2**31 - 1
