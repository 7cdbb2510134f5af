"""Device, precision and threads: what `auto` means, and one line for what the machine does not have."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from kdrun import machine as module
from kdrun.errors import KdrunError
from kdrun.machine import ONE_THREAD_MACS, cores, environment, machine, threads_for


def test_auto_on_a_cpu_is_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert machine("auto", "auto", "auto") == (torch.device("cpu"), "fp32", None)
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
    assert machine("auto", "auto", 3) == (torch.device("cuda"), precision, 3)
    with pytest.raises(KdrunError, match="has 1 CUDA devices"):
        machine("cuda:4", "auto", "auto")
    if precision == "fp32":
        with pytest.raises(KdrunError, match="no bf16 units"):
            machine("cuda", "bf16", "auto")


def test_memory_is_kept_where_a_cpu_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[str] = []
    monkeypatch.setattr(module, "keep_memory", lambda: kept.append(device))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
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
    monkeypatch.setattr(module, "Path", lambda path: info)
    assert module._cpu_has_bf16() is allowed
    monkeypatch.setattr(module, "_cpu_has_bf16", lambda: allowed)
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


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity on this system")
def test_cores_are_those_that_the_process_may_use() -> None:
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {next(iter(before))})
        assert cores() == 1
    finally:
        os.sched_setaffinity(0, before)


def test_autocast_is_off_in_fp32_and_casts_in_bf16() -> None:
    a = torch.ones(2, 2)
    with module.Machine(torch.device("cpu"), "fp32", None).autocast()():
        assert (a @ a).dtype == torch.float32
    with module.Machine(torch.device("cpu"), "bf16", None).autocast()():
        assert (a @ a).dtype == torch.bfloat16


def test_what_is_recorded() -> None:
    found = environment(module.Machine(torch.device("cpu"), "fp32", None), 2)
    assert found["torch"] == torch.__version__ and found["threads"] == 2 and found["device"] == "cpu"
