"""Device, precision and threads of a run. They depend on the machine and the work, not on timing."""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from kdrun.errors import KdrunError
from kdrun.graphs import Graphs, cuda_graphs
from kdrun.ranks import ONE, Ranks, present
from kdrun.resources import cores

ONE_THREAD_MACS = 200e6
"""Below these multiply-accumulates, a step is fastest on one thread: a second costs more than it saves."""

CPU_INFO = Path("/proc/cpuinfo")

BF16_FLAGS = {"amx_bf16", "avx512_bf16", "bf16"}

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Parameters of `mallopt`, as glibc's malloc.h numbers them."""

UNTRIMMED = 2**31 - 1
MAPPED_ABOVE = (2**30, 2**25)
"""malloc maps each block above so many bytes by itself. glibc before 2.35 accepts only the second value."""


class Machine(NamedTuple):
    """precision: `fp32`, `tf32`, `bf16`. threads: None if each training decides. ranks: who share a batch."""

    device: torch.device
    precision: str
    threads: int | None
    ranks: Ranks = ONE

    def autocast(self) -> Callable[[], torch.autocast]:
        """Returns the context in which models run: bf16 with fp32 weights, or no change."""
        kind, enabled = self.device.type, self.precision == "bf16"
        keep = kind != "cuda"  # a graph must cast the weights anew each time
        return lambda: torch.autocast(kind, dtype=torch.bfloat16, enabled=enabled, cache_enabled=keep)

    @contextmanager
    def numerics(self) -> Iterator[None]:
        """Sets the numerics for training within the block. On a GPU, with tf32, convolutions use TF32; matrix
        products, and so losses, are always exact. cuDNN uses deterministic kernels, not chosen by timing.
        """
        cudnn = torch.backends.cudnn
        with exact():
            before = cudnn.benchmark, cudnn.deterministic
            if self.device.type == "cuda":
                cudnn.allow_tf32, cudnn.benchmark, cudnn.deterministic = self.precision == "tf32", False, True
            try:
                yield
            finally:
                cudnn.benchmark, cudnn.deterministic = before

    def graphs(self, wanted: str) -> Graphs | None:
        """CUDA graphs on a GPU, unless `runtime.graph` is off. wanted: `auto` or `off`."""
        return cuda_graphs(self.device) if self.device.type == "cuda" and wanted == "auto" else None


def machine(device: str, precision: str, threads: int | str) -> Machine:
    """Resolves `auto`, sets the allocator on a CPU. Raises KdrunError for a missing device or precision."""
    chosen, ranks = _device(device), present()
    if ranks.count > 1 and chosen.type == "cuda":
        chosen = _own_gpu(device, ranks)
    numbers = _precision(precision, chosen)
    if chosen.type == "cpu":
        keep_memory()
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)  # so that events, streams and random states are those of this GPU
    return Machine(chosen, numbers, None if threads == "auto" else int(threads), ranks)


def keep_memory() -> bool:
    """Makes malloc reuse large blocks. Returns whether it does. Only glibc needs it: it maps every block
    above 32 MB (at first above 128 kB) anew and returns it when it is freed. Then the system zeroes its pages
    again, half of the time of a forward of a large batch on a CPU. The process then returns no memory to the
    system.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    untrimmed = bool(mallopt(M_TRIM_THRESHOLD, UNTRIMMED))
    return any(mallopt(M_MMAP_THRESHOLD, size) for size in MAPPED_ABOVE) and untrimmed


@contextmanager
def exact() -> Iterator[None]:
    """Within the block, float32 is computed in float32 on a GPU too: no product uses TF32."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = False
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before


def widest(tensor: Tensor) -> Tensor:
    """The tensor in float64; on mps, which has none, in float32."""
    return tensor.float() if tensor.device.type == "mps" else tensor.double()


def _device(name: str) -> torch.device:
    """`auto` is a CUDA GPU or the CPU. It never takes mps, on which nothing has run yet."""
    kinds = ["cuda"] if torch.cuda.is_available() else []
    kinds += ["cpu"] + (["mps"] if torch.backends.mps.is_available() else [])
    kind = kinds[0] if name == "auto" else name.partition(":")[0]
    if kind not in kinds:
        raise KdrunError("device", name, "this machine has no such device", ["auto", *kinds])
    chosen = torch.device(kind if name == "auto" else name)
    if chosen.index is not None and chosen.index >= torch.cuda.device_count():
        raise KdrunError("device", name, f"this machine has {torch.cuda.device_count()} CUDA devices")
    return chosen


def _own_gpu(name: str, ranks: Ranks) -> torch.device:
    """The GPU of a rank. Raises KdrunError if there are too few."""
    if ":" in name:
        raise KdrunError("device", name, "names one GPU, but each process needs its own", ["auto", "cuda"])
    if ranks.here > torch.cuda.device_count():
        problem = (
            f"{ranks.here} processes on this machine need a GPU each; it has {torch.cuda.device_count()}"
        )
        raise KdrunError("device", name, problem, ["cpu"])
    return torch.device("cuda", ranks.place)


def _precision(name: str, device: torch.device) -> str:
    modern = device.type == "cuda" and torch.cuda.get_device_capability(device)[0] >= 8
    if name == "auto":
        return "bf16" if modern else "fp32"
    if name == "bf16" and device.type == "cpu" and not _cpu_has_bf16():
        problem = "this processor has no bf16 instructions (it would be about 10 times slower than fp32)"
        raise KdrunError("precision", name, problem, ["auto", "fp32"])
    if name == "tf32" and device.type != "cuda":
        raise KdrunError("precision", name, "is for GPUs", ["auto", "fp32"])
    if name != "fp32" and device.type == "cuda" and not modern:
        problem = f"this GPU has no {name} units (compute capability 8 or higher)"
        raise KdrunError("precision", name, problem, ["auto", "fp32"])
    return name


def _cpu_has_bf16() -> bool:
    if not CPU_INFO.exists():
        return platform.machine() == "arm64"  # Apple's processors from the second generation on
    return bool(BF16_FLAGS & set(_cpu_info("flags", "Features").split()))


def threads_for(macs_per_step: float, processes: int = 1) -> int:
    """One thread for small steps, otherwise this process's share of the cores that the run may use."""
    return 1 if macs_per_step < ONE_THREAD_MACS else max(1, cores() // processes)


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Sets torch's number of threads within the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def crowded(threads: int) -> str:
    """A warning if other programs use the cores that several threads need; otherwise empty."""
    if threads == 1 or not hasattr(os, "getloadavg"):
        return ""
    load, count = os.getloadavg()[0], cores()
    if load <= count - threads + 1.5:
        return ""
    return f"this machine is busy (load {load:.1f} on {count} cores): threads=1 may be several times faster"


def environment(place: Machine, threads: int) -> dict[str, Any]:
    """The machine and the versions, for records."""
    name = torch.cuda.get_device_name(place.device) if place.device.type == "cuda" else place.device.type
    return {
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "torchvision": _version("torchvision"),
        "device": name,
        "cpu": _cpu_info("model name") or platform.processor() or platform.machine(),
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


def _cpu_info(*names: str) -> str:
    """What the system says of the first processor under one of these names; empty if nothing."""
    rows = CPU_INFO.read_text().splitlines() if CPU_INFO.exists() else []
    return next((row.partition(":")[2].strip() for row in rows if row.startswith(names)), "")
