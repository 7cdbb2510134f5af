"""scripts/spin: its step is kdrun's, all settings take turns in each case, and the worst case decides."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

from tests.scripts import loaded

ROOT = Path(__file__).parents[1]

STANDS_IN = """
import json, os, sys
slow = os.environ.get("OMP_WAIT_POLICY") == "passive"
print(json.dumps({"torch": "2", "runtime": "GNU"}), flush=True)
for line in sys.stdin:
    print(json.dumps({"images": 50.0 if slow else 100.0, "cores": 1.0}), flush=True)
"""
"""A worker that sleeps at half the speed."""


@pytest.fixture
def script() -> Iterator[ModuleType]:
    module = loaded("spin")
    before = torch.get_num_threads()
    yield module
    torch.set_num_threads(before)


def test_a_worker_answers_with_the_speed_of_a_step(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(script, "SIZES", (8,))
    monkeypatch.setattr(script, "BATCH", 8)
    monkeypatch.setattr(script, "CLASSES", 10)
    monkeypatch.setattr(sys, "stdin", io.StringIO("8 0.01\n"))
    assert script.worker("resnet8-resnet8", 1) == 0
    about, answer = map(json.loads, capsys.readouterr().out.splitlines())
    assert about["torch"] == torch.__version__ and about["runtime"] in ("GNU", "LLVM or Intel", "unknown")
    assert answer["images"] > 0 and answer["cores"] > 0


def test_a_round_gives_each_setting_each_case(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(script, "SETTLE", 0.0)
    monkeypatch.setattr(script, "worker_command", lambda given, setting: [sys.executable, "-c", STANDS_IN])
    asked = ["--out", str(tmp_path), "--minutes", "0", "--busy", "1", "--settings", "GOMP_SPINCOUNT=1000"]
    assert script.main(asked) == 0
    found = json.loads((tmp_path / "spin.json").read_text())
    assert list(found["measured"]) == ["8x8, quiet", "32x32, quiet", "8x8, 1 busy", "32x32, 1 busy"]
    settings = ["nothing set", "OMP_WAIT_POLICY=passive", "GOMP_SPINCOUNT=1000", "one thread"]
    assert all(list(rows) == settings for rows in found["measured"].values()) and found["rounds"] == 1
    page = (tmp_path / "spin.md").read_text()
    assert "| OMP_WAIT_POLICY=passive | 50 (0.50) | 50 (0.50) |" in page
    assert "better one: nothing set, GOMP_SPINCOUNT=1000, one thread." in page


def test_the_worst_case_decides(script: ModuleType) -> None:
    """Spinning is the better one if it is quiet, sleeping if it is not; one between has most of both."""
    quiet = {"nothing set": 800.0, "OMP_WAIT_POLICY=passive": 350.0, "between": 780.0}
    loaded = {"nothing set": 70.0, "OMP_WAIT_POLICY=passive": 150.0, "between": 145.0}
    measured = {
        case: {name: [{"images": speed * factor} for factor in (1.0, 1.1)] for name, speed in speeds.items()}
        for case, speeds in (("quiet", quiet), ("busy", loaded))
    }
    page = script.page({"measured": measured})
    assert "| 0.44 |" in page and "| 0.47 |" in page and page.endswith("better one: between.\n")


@pytest.mark.parametrize("name", ["GNU", "LLVM or Intel"])
def test_each_runtime_is_given_what_it_reads_and_what_it_does_not(script: ModuleType, name: str) -> None:
    own, values, unread = script.READ[name]
    tried = script.tried(name)
    assert tried == [*(f"{own}={value}" for value in values), unread] and not unread.startswith(own)
    with pytest.raises(SystemExit, match="name --settings"):
        script.tried("unknown")
