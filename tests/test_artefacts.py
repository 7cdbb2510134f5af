"""Fingerprints, whole writes, and locks that real processes hold and lose."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from kdrun.artefacts import (
    empty,
    file_hash,
    fingerprint,
    locked,
    read_json,
    sweep_parts,
    write_json,
    write_whole,
)


def test_fingerprints_follow_values_not_spelling() -> None:
    assert fingerprint({"a": 2, "b": [1, 2]}) == fingerprint({"b": (1.0, 2.0), "a": 2.0})
    assert (
        len({fingerprint(v) for v in ({"a": 1}, {"a": True}, {"a": "1"}, {"a": None}, {"a": 1.5}, {"b": 1})})
        == 6
    )
    with pytest.raises(TypeError, match="no fingerprint of a set"):
        fingerprint({"a": {1}})


def test_a_write_is_whole_or_did_not_happen(tmp_path: Path) -> None:
    path = tmp_path / "state"
    write_json(path, {"n": 1})

    def broken(temporary: Path) -> None:
        temporary.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        write_whole(path, broken)
    assert read_json(path) == {"n": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["state"]


def test_a_process_killed_while_writing_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "state"
    write_json(path, {"n": 1})
    code = (
        "import sys, os, signal; from pathlib import Path; from kdrun.artefacts import write_whole\n"
        "def write(t):\n t.write_text('half'); os.kill(os.getpid(), signal.SIGKILL)\n"
        "write_whole(Path(sys.argv[1]), write)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert read_json(path) == {"n": 1}
    assert len(list(tmp_path.iterdir())) == 2
    sweep_parts(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["state"]


HOLD = (
    "import sys; from pathlib import Path; from kdrun.artefacts import locked\n"
    "with locked(Path(sys.argv[1])):\n print('held', flush=True); sys.stdin.read()"
)


def test_a_lock_waits_for_its_holder_names_it_and_dies_with_it(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout and holder.stdout.readline() == "held\n"
    told: list[str] = []

    def kill(who: str) -> None:
        told.append(who)
        os.kill(holder.pid, signal.SIGKILL)

    with locked(tmp_path, waiting=kill):
        assert told and f"process {holder.pid} on " in told[0]
    holder.communicate()
    with locked(tmp_path, waiting=lambda who: pytest.fail(f"still held by {who}")):
        pass


def test_emptying_a_folder_keeps_its_lock(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "file").write_text("x")
    (tmp_path / "state.pt").write_text("x")
    with locked(tmp_path):
        empty(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == [".lock"]


def test_a_file_counts_by_its_content(tmp_path: Path) -> None:
    for name, text in (("a", "x"), ("b", "x"), ("c", "y")):
        (tmp_path / name).write_text(text)
    assert file_hash(tmp_path / "a") == file_hash(tmp_path / "b") != file_hash(tmp_path / "c")
