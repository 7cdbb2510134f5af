"""A table on disk: rows are there or not there, whatever happens to those who write and read it."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from kdrun.errors import KdrunError
from kdrun.training.table import AnswerTable, table_bytes
from tests.training.filling import WIDTH, answers, opened

CODES = 200
ROOT = Path(__file__).parent.parent.parent


def start(folder: Path, codes: int, *bomb: str) -> subprocess.Popen[bytes]:
    """Another process that fills the table."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.training.filling", str(folder), str(codes), *bomb], cwd=ROOT
    )


def right(table: AnswerTable) -> int:
    """How many rows are there; each is what was written."""
    codes = np.flatnonzero(table.has(np.arange(len(table))))
    if len(codes):
        found, meant = table.read(codes), answers(codes)
        assert all(np.array_equal(found[name], meant[name]) for name in meant)
    return len(codes)


def filled(folder: Path, codes: int = CODES) -> None:
    table = opened(folder, codes)
    table.write(np.arange(codes), answers(np.arange(codes)))
    table.close()


@pytest.mark.parametrize(("bomb", "there"), [("numbers", 14), ("between", 14), ("codes", 17)])
def test_a_kill_leaves_whole_rows_and_the_next_goes_on(tmp_path: Path, bomb: str, there: int) -> None:
    assert start(tmp_path, CODES, bomb).wait() == -signal.SIGKILL
    table = opened(tmp_path, CODES)
    assert table.writable and right(table) == there
    missing = np.flatnonzero(~table.has(np.arange(CODES)))
    table.write(missing, answers(missing))
    assert right(table) == CODES
    table.close()
    assert right(opened(tmp_path, CODES)) == CODES


def test_readers_see_right_rows_while_another_process_writes_and_is_killed(tmp_path: Path) -> None:
    codes, seen = 200_000, 0
    writer = start(tmp_path, codes)
    while not (tmp_path / "table.json").exists():
        assert writer.poll() is None
    while seen < 100:
        reader = opened(tmp_path, codes)
        assert not reader.writable
        seen = right(reader)
        reader.close()
    writer.kill()
    writer.wait()
    after = opened(tmp_path, codes)
    assert after.writable and codes > right(after) >= seen


def test_only_one_writes_and_others_keep_what_was_there_when_they_came(tmp_path: Path) -> None:
    first = opened(tmp_path, CODES)
    first.write(np.arange(10), answers(np.arange(10)))
    first.sync()
    second = opened(tmp_path, CODES)
    assert first.writable and not second.writable
    second.write(np.arange(10, 20), answers(np.arange(10, 20)))
    first.clear()
    assert right(second) == 10 and right(first) == 0
    first.close()
    assert opened(tmp_path, CODES).writable


@pytest.mark.parametrize("name", ["logits.f32", "codes.i64"])
def test_of_a_truncated_file_what_is_left_counts(tmp_path: Path, name: str) -> None:
    filled(tmp_path)
    with (tmp_path / name).open("r+b") as file:
        file.truncate(51 * (WIDTH * 4 if name == "logits.f32" else 8) + 3)
    assert right(opened(tmp_path, CODES)) == 51


@pytest.mark.parametrize("name", ["logits.f32", "embedding.f32", "codes.i64"])
@pytest.mark.parametrize("place", [0, 80, 83, 85, 399])
def test_one_bit_costs_one_row_which_is_said_and_made_anew(tmp_path: Path, name: str, place: int) -> None:
    filled(tmp_path)
    whole = bytearray((tmp_path / name).read_bytes())
    whole[place] ^= 1
    (tmp_path / name).write_bytes(whole)
    said: list[str] = []
    table = AnswerTable(tmp_path, CODES, {"logits": WIDTH, "embedding": 2}, "key", say=said.append)
    missing = np.flatnonzero(~table.has(np.arange(CODES)))
    assert 1 <= len(missing) <= 2 and right(table) == CODES - len(missing)
    if said or name != "codes.i64":  # an entry that names a code whose own row is there is never read
        assert len(said) == 1 and str(tmp_path) in said[0] and "is damaged" in said[0]
    table.write(missing, answers(missing))
    assert right(table) == CODES
    table.close()
    assert right(opened(tmp_path, CODES)) == CODES


@pytest.mark.parametrize("name", ["logits.f32", "codes.i64", ".lock"])
def test_no_link_is_written_through(tmp_path: Path, name: str) -> None:
    folder, letter = tmp_path / "table", tmp_path / "letter"
    filled(folder)
    letter.write_text("dear")
    (folder / name).unlink()
    (folder / name).symlink_to(letter)
    with pytest.raises(KdrunError, match=f"{re.escape(name)}: is a link"):
        opened(folder, CODES)
    assert letter.read_text() == "dear"


@pytest.mark.parametrize("damage", ["header", "no header", "no numbers", "codes", "folders"])
def test_a_damaged_table_is_begun_anew(tmp_path: Path, damage: str) -> None:
    filled(tmp_path)
    if damage == "header":
        (tmp_path / "table.json").write_text("{")
    elif damage == "codes":
        np.full(CODES, CODES).tofile(tmp_path / "codes.i64")
    elif damage == "folders":
        for name in ("codes.i64", "embedding.f32"):
            (tmp_path / name).unlink()
            (tmp_path / name).mkdir()
    else:
        (tmp_path / ("table.json" if damage == "no header" else "embedding.f32")).unlink()
    table = opened(tmp_path, CODES)
    assert right(table) == 0
    table.close()
    filled(tmp_path)
    assert right(opened(tmp_path, CODES)) == CODES


def test_what_another_teacher_said_is_not_used(tmp_path: Path) -> None:
    filled(tmp_path)
    held = opened(tmp_path, CODES)
    reader = AnswerTable(tmp_path, CODES, held.widths, "another key")
    assert not reader.writable and not reader.has(np.arange(CODES)).any()
    held.close()
    assert not AnswerTable(tmp_path, CODES, held.widths, "another key").has(np.arange(CODES)).any()


def test_a_full_disk_ends_the_writing_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(tmp_path)
    table = opened(tmp_path, 2 * CODES)
    codes = np.arange(CODES, CODES + 10)

    def full(file: int, array: object) -> None:
        raise OSError(28, "No space left on device")

    table.write(codes, answers(codes))
    monkeypatch.setattr("kdrun.training.table._append", full)
    table.write(codes + 10, answers(codes + 10))
    assert not table.writable and right(table) == 10
    table.close()


@pytest.mark.parametrize("numbers", ["fp32", "fp16"])
def test_the_size_that_is_planned_is_the_size_of_the_files(tmp_path: Path, numbers: str) -> None:
    widths = {"logits": WIDTH, "embedding": 2}
    table = AnswerTable(tmp_path, CODES, widths, "key", numbers)
    table.write(np.arange(CODES), answers(np.arange(CODES)))
    table.close()
    files = [path for path in tmp_path.iterdir() if path.name != "table.json"]
    assert sum(path.stat().st_size for path in files) == table_bytes(CODES, widths, numbers)
