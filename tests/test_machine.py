"""Device, precision, threads, memory: what `auto` means, and one line for what a machine does not have."""

from __future__ import annotations

import ctypes
import platform
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from kdrun import machine as module
from kdrun.errors import KdrunError
from kdrun.machine import (
    M_MMAP_THRESHOLD,
    M_TRIM_THRESHOLD,
    ONE_THREAD_MACS,
    environment,
    exact,
    keep_memory,
    machine,
    threads_for,
    widest,
)


def test_auto_on_a_cpu_is_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert machine("auto", "auto", "auto")[:3] == (torch.device("cpu"), "fp32", None)
    with pytest.raises(
        KdrunError, match=r"^device=cuda: this machine has no such device\. Choices: auto, cpu$"
    ):
        machine("cuda", "auto", "auto")


@pytest.mark.parametrize(("capability", "precision"), [((7, 5), "fp32"), ((8, 0), "bf16"), ((9, 0), "bf16")])
def test_auto_on_a_gpu_follows_its_capability(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], precision: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    assert machine("auto", "auto", 3)[:3] == (torch.device("cuda"), precision, 3)
    with pytest.raises(KdrunError, match="has 1 CUDA devices"):
        machine("cuda:4", "auto", "auto")
    if precision == "fp32":
        with pytest.raises(KdrunError, match="no bf16 units"):
            machine("cuda", "bf16", "auto")


def test_auto_never_takes_mps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert machine("auto", "auto", "auto").device == torch.device("cpu")
    assert machine("mps", "auto", "auto").device == torch.device("mps")


def test_float64_only_where_a_device_has_it() -> None:
    assert widest(torch.ones(2)).dtype == torch.float64

    class OnMps:
        device = torch.device("mps")

        def float(self) -> str:
            return "float32"

    assert widest(OnMps()) == "float32"  # type: ignore[arg-type, comparison-overlap]


@pytest.mark.parametrize(("precision", "convolutions"), [("fp32", False), ("tf32", True), ("bf16", False)])
def test_tf32_only_where_the_precision_says_so(
    gpus: list[torch.device], precision: str, convolutions: bool
) -> None:
    place, other = machine("cuda:1", precision, "auto"), machine("cuda:1", "tf32", "auto")
    assert gpus == [torch.device("cuda:1")] * 2  # where events, streams and random states are taken from
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    with other.numerics():
        assert (matmul.allow_tf32, cudnn.allow_tf32) == (False, True)
    with place.numerics():
        assert (matmul.allow_tf32, cudnn.allow_tf32) == (False, convolutions)
        assert (cudnn.benchmark, cudnn.deterministic) == (False, True)
        with pytest.raises(ValueError, match="inside"), exact():
            assert not cudnn.allow_tf32
            raise ValueError("inside")
        assert cudnn.allow_tf32 is convolutions


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> list[torch.device]:
    """Two GPUs that are not there. Filled with those that are made the current one."""
    chosen: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    return chosen


def test_memory_is_kept_where_a_cpu_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[str] = []
    monkeypatch.setattr(module, "keep_memory", lambda: kept.append(device))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    for device in ("cuda", "cpu"):
        machine(device, "auto", "auto")
    assert kept == ["cpu"]


@pytest.mark.parametrize(
    ("flags", "allowed"), [("fpu avx2", False), ("avx512_bf16", True), ("amx_bf16", True)]
)
def test_bf16_needs_the_instructions(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, flags: str, allowed: bool
) -> None:
    info = tmp_path / "cpuinfo"
    info.write_text(f"processor : 0\nflags : {flags}\n")
    monkeypatch.setattr(module, "CPU_INFO", info)
    if allowed:
        assert machine("cpu", "bf16", "auto").precision == "bf16"
    else:
        with pytest.raises(
            KdrunError, match=r"^precision=bf16: this processor has no bf16 .*10 times slower"
        ):
            machine("cpu", "bf16", "auto")


def test_small_steps_use_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "cores", lambda: 16)
    assert threads_for(ONE_THREAD_MACS - 1) == 1
    assert threads_for(ONE_THREAD_MACS) == 16


def test_autocast_is_off_in_fp32_and_casts_in_bf16() -> None:
    a = torch.ones(2, 2)
    with module.Machine(torch.device("cpu"), "fp32", None).autocast()():
        assert (a @ a).dtype == torch.float32
    with module.Machine(torch.device("cpu"), "bf16", None).autocast()():
        assert (a @ a).dtype == torch.bfloat16


def test_what_is_recorded() -> None:
    record = environment(module.Machine(torch.device("cpu"), "fp32", None), 2)
    assert record["torch"] == torch.__version__ and record["threads"] == 2 and record["device"] == "cpu"


FAULTS = """
import resource
from kdrun.machine import keep_memory

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
