"""What a process may use: the least of what its system and its container allow."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kdrun import resources
from kdrun.cli import main
from kdrun.data import decode, digests
from kdrun.resources import no_memory


@pytest.fixture
def group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The control group of a container on a machine with 64 cores."""
    monkeypatch.setattr(resources, "CGROUP", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(64)), raising=False)
    return tmp_path


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, 64),
        ({"cpu.max": "max 100000\n"}, 64),
        ({"cpu.max": "200000 100000\n"}, 2),
        ({"cpu.max": "150000 100000\n"}, 2),
        ({"cpu.max": "1000 100000\n"}, 1),
        ({"cpu.max": "9900000 100000\n"}, 64),
        ({"cpu.max": ""}, 64),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 64),
        ({"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 4),
    ],
)
def test_cores_are_those_of_the_container(group: Path, files: dict[str, str], cores: int) -> None:
    for name, content in files.items():
        (group / name).parent.mkdir(exist_ok=True)
        (group / name).write_text(content)
    assert resources.cores() == cores


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity on this system")
def test_cores_are_those_that_the_process_may_use() -> None:
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {next(iter(before))})
        assert resources.cores() == 1
    finally:
        os.sched_setaffinity(0, before)


@pytest.mark.parametrize("reads", ["blocks", "digests"])
def test_pictures_are_read_by_as_many_threads_as_the_container_has_cores(
    group: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reads: str
) -> None:
    (group / "cpu.max").write_text("200000 100000\n")
    file = tmp_path / "x.png"
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(file)
    pools: list[int] = []
    pool = decode.ThreadPoolExecutor
    monkeypatch.setattr(decode, "ThreadPoolExecutor", lambda count: pools.append(count) or pool(count))
    if reads == "blocks":
        assert len(list(decode.blocks([str(file)], decode.Square(4, 3)))) == 1
    else:
        facts = file.stat()
        picture = decode.Picture(str(file), facts.st_size, facts.st_mtime_ns)
        assert len(digests.digests([picture], None)) == 16
    assert pools == [2]


def test_free_memory_is_the_least_that_is_known(group: Path) -> None:
    free = resources.free_memory()
    assert free is None or 2**20 < free < 2**50
    for name, content in {
        "memory.max": "3000000",
        "memory.current": "2000000",
        "memory.stat": "anon 5\ninactive_file 500000\n",
    }.items():
        (group / name).write_text(content)
    assert resources.free_memory() == 1_500_000
    (group / "memory.max").write_text("max")
    assert resources.free_memory() != 1_500_000


def test_a_process_that_only_decodes_loads_no_torch() -> None:
    program = "import sys, kdrun.data.decode, kdrun.resources; assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.mark.parametrize(
    ("error", "amount"),
    [
        (MemoryError(), ""),
        (
            RuntimeError(
                "DefaultCPUAllocator: can't allocate memory: you tried to allocate 36000000000 bytes."
            ),
            "36.0 GB",
        ),
        (RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has"), "2.00 GiB"),
        (MemoryError("Unable to allocate 7.45 GiB for an array"), "7.45 GiB"),
        (OSError(12, "Cannot allocate memory"), ""),
    ],
)
def test_missing_memory_is_one_line_with_keys(
    error: Exception, amount: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(_: object) -> int:
        raise error

    monkeypatch.setattr("kdrun.cli._dispatch", fails)
    assert main([]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    tried = f" ({amount} were requested at once)" if amount else ""
    assert (
        line.startswith(f"out of memory{tried}. Lower one of these keys") and "recipe.student.batch" in line
    )


def test_other_errors_are_no_missing_memory() -> None:
    assert not no_memory(ValueError("no idea")) and not no_memory(OSError(2, "No such file"))


def test_a_library_that_does_not_fit_into_the_memory_is_one_line() -> None:
    error = ImportError("libtorch_cpu.so: failed to map segment from shared object")
    assert no_memory(error).startswith("out of memory: libtorch_cpu.so cannot be loaded.")
