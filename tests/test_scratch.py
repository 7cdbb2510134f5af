"""Scripts leave no temporary folder, however they end."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.gpu.bench import Bench
from tests.scratch import scratch

ROOT = Path(__file__).parents[1]

HOLDS = """
import sys
from tests.scratch import scratch
with scratch("kdrun-gpu") as folder:
    (folder / "weights").write_text("many")
    print(folder, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


def holding() -> tuple[subprocess.Popen[str], Path]:
    """A process that has a folder, until its input ends."""
    command = [sys.executable, "-c", HOLDS]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def test_a_folder_is_gone_after_the_block(place: Path) -> None:
    with scratch("kdrun-gpu") as folder:
        assert folder.is_dir() and folder.is_relative_to(place)
    assert list(place.iterdir()) == []


def test_a_killed_script_leaves_nothing_that_the_next_one_does_not_remove(place: Path) -> None:
    (killed, left), (other, alive) = holding(), holding()
    killed.kill()
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL and (left / "weights").exists()
    bench = Bench(place / "out", "cpu", tiny=True)
    assert not left.exists() and (alive / "weights").exists() and bench.folder.is_dir()
    bench.close()
    other.communicate("")
    assert other.returncode == 0 and [path.name for path in place.iterdir()] == ["out"]
