"""The cores and the memory that this process may use, by system and container. Imports no torch."""

from __future__ import annotations

import math
import os
import re
import resource
import sys
from contextlib import suppress
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
"""The control group of a container, as seen from inside."""

QUOTAS = (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"))
"""Files with a control group's processor time and its period: version 2, version 1."""


def cores() -> int:
    """Cores that this process may use, by its affinity and the quota of its control group."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for files in QUOTAS:
        with suppress(OSError, ValueError):  # "max" and -1 are no limit
            limit, period, *_ = " ".join((CGROUP / file).read_text() for file in files).split()
            if int(limit) > 0:
                allowed = min(allowed, math.ceil(int(limit) / int(period)))
    return max(1, allowed)


def free_memory() -> int | None:
    """Free bytes for this process, by the machine and its control group; None if unknown."""
    known = [free for free in (_of_the_machine(), _of_the_group()) if free is not None]
    return min(known, default=None)


def peak_memory() -> int:
    """The most bytes of memory that this process has held so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def no_memory(error: BaseException) -> str:
    """Advice for an error about missing memory, from any library; empty for other errors."""
    text = str(error)
    if "failed to map segment" in text:  # the system's words, while a library is loaded
        library = text.partition(":")[0]
        return f"out of memory: {library} cannot be loaded. Is the limit too low (ulimit -v)?"
    words = ("can't allocate memory", "Cannot allocate memory", "out of memory", "Unable to allocate")
    if not (isinstance(error, MemoryError) or any(word in text for word in words)):
        return ""
    bytes_asked = re.search(r"allocate (\d+) bytes|allocate ([\d.]+ [KMGT]iB)", text)
    tried = ""
    if bytes_asked:
        amount = bytes_asked[2] or f"{int(bytes_asked[1]) / 1e9:.1f} GB"
        tried = f" ({amount} were requested at once)"
    keys = "recipe.teacher.batch, recipe.student.batch, dataset.train, evaluation.batches"
    return f"out of memory{tried}. Lower one of these keys: {keys}. The same command continues"


def _of_the_machine() -> int | None:
    with suppress(OSError, ValueError, IndexError):
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    with suppress(OSError, ValueError, AttributeError):  # not Linux: all memory of the machine
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None


def _of_the_group() -> int | None:
    with suppress(OSError, ValueError):  # "max": no limit
        most = int((CGROUP / "memory.max").read_text())
        used = int((CGROUP / "memory.current").read_text())
        cached = [
            int(line.split()[1])
            for line in (CGROUP / "memory.stat").read_text().splitlines()
            if line.startswith("inactive_file ")
        ]
        return most - used + sum(cached)
    return None
