"""How a run computes: device, precision, threads. They follow from machine and work, not from timing."""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch

from kdrun.errors import KdrunError
from kdrun.graphs import CudaGraphs, Graphs
from kdrun.resources import cores

ONE_THREAD_MACS = 200e6
"""A step with fewer multiply-accumulates than this runs best on one thread: starting a second costs more than
it does.
"""

BF16_FLAGS = {"amx_bf16", "avx512_bf16", "bf16"}

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Parameters of `mallopt`, as glibc's malloc.h numbers them."""

UNTRIMMED = 2**31 - 1
MAPPED_ABOVE = (2**30, 2**25)
"""Bytes from which a block is a mapping of its own; glibc before 2.35 takes no more than the second."""


class Machine(NamedTuple):
    """device: what computes. precision: `fp32`, `tf32` or `bf16`. threads: a number, or None if each
    training decides.
    """

    device: torch.device
    precision: str
    threads: int | None

    def autocast(self) -> Callable[[], torch.autocast]:
        """Makes the context in which models compute: bf16 with fp32 weights, or nothing."""
        kind, enabled = self.device.type, self.precision == "bf16"
        keep = kind != "cuda"  # a graph must cast the weights anew each time
        return lambda: torch.autocast(kind, dtype=torch.bfloat16, enabled=enabled, cache_enabled=keep)

    def graphs(self, wanted: str) -> Graphs | None:
        """Records work as graphs on a GPU, unless `runtime.graph` is off."""
        return CudaGraphs(self.device) if self.device.type == "cuda" and wanted == "auto" else None


def machine(device: str, precision: str, threads: int | str) -> Machine:
    """Resolves `auto`, and sets the allocator if a CPU computes. Raises KdrunError for a missing device or
    precision.
    """
    chosen = _device(device)
    numbers = _precision(precision, chosen)
    if chosen.type == "cpu":
        keep_memory()
    if chosen.type == "cuda":
        _set_numerics(numbers)
    return Machine(chosen, numbers, None if threads == "auto" else int(threads))


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


def _set_numerics(precision: str) -> None:
    """fp32 is exact; otherwise products that are not cast to bf16 may be in TF32. cuDNN takes kernels that
    give the same bits each time, and none that it chose by timing.
    """
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision != "fp32"
    torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = False, True


def _device(name: str) -> torch.device:
    have = ["cpu"]
    if torch.backends.mps.is_available():
        have.insert(0, "mps")
    if torch.cuda.is_available():
        have.insert(0, "cuda")
    kind = have[0] if name == "auto" else name.partition(":")[0]
    if kind not in have:
        raise KdrunError("device", name, "this machine has no such device", ["auto", *have])
    chosen = torch.device(kind if name == "auto" else name)
    if chosen.index is not None and chosen.index >= torch.cuda.device_count():
        raise KdrunError("device", name, f"this machine has {torch.cuda.device_count()} CUDA devices")
    return chosen


def _precision(name: str, device: torch.device) -> str:
    if name == "auto":
        return (
            "bf16" if device.type == "cuda" and torch.cuda.get_device_capability(device)[0] >= 8 else "fp32"
        )
    if name == "bf16" and device.type == "cpu" and not _cpu_has_bf16():
        problem = "this processor has no bf16 instructions (it would be about 10 times slower than fp32)"
        raise KdrunError("precision", name, problem, ["auto", "fp32"])
    if name == "tf32" and device.type != "cuda":
        raise KdrunError("precision", name, "is for GPUs", ["auto", "fp32"])
    if name != "fp32" and device.type == "cuda" and torch.cuda.get_device_capability(device)[0] < 8:
        problem = f"this GPU has no {name} units (compute capability 8 or higher)"
        raise KdrunError("precision", name, problem, ["auto", "fp32"])
    return name


def _cpu_has_bf16() -> bool:
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return platform.machine() == "arm64"  # Apple's processors from the second generation on
    lines = [row for row in info.read_text().splitlines() if row.startswith(("flags", "Features"))]
    return bool(lines) and bool(BF16_FLAGS & set(lines[0].split()))


def threads_for(macs_per_step: float) -> int:
    """One thread for steps of few multiply-accumulates, else all cores that this process may use."""
    return 1 if macs_per_step < ONE_THREAD_MACS else cores()


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Torch computes with that many threads within the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def crowded(threads: int) -> str:
    """A warning if other programs keep the cores busy that several threads wait for; otherwise empty."""
    if threads == 1 or not hasattr(os, "getloadavg"):
        return ""
    load, have = os.getloadavg()[0], cores()
    if load <= have - threads + 1.5:
        return ""
    return f"this machine is busy (load {load:.1f} on {have} cores): threads=1 may be several times faster"


def environment(place: Machine, threads: int) -> dict[str, Any]:
    """The machine and the versions, for records."""
    name = torch.cuda.get_device_name(place.device) if place.device.type == "cuda" else place.device.type
    return {
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "torchvision": _version("torchvision"),
        "device": name,
        "cpu": _cpu_name(),
        "threads": threads,
        "precision": place.precision,
        "platform": platform.platform(),
    }


def _version(package: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for row in info.read_text().splitlines():
            if row.startswith("model name"):
                return row.partition(":")[2].strip()
    return platform.processor() or platform.machine()
