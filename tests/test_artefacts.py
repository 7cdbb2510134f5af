"""Fingerprints, whole writes, and locks that real processes hold and lose."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kdrun.artefacts import (
    append_text,
    aside,
    empty,
    file_hash,
    fingerprint,
    full_disk,
    held,
    locked,
    read_json,
    remove,
    sweep_parts,
    unheld,
    write_json,
    write_text,
    write_whole,
)
from kdrun.errors import KdrunError


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


def test_what_another_process_writes_is_not_swept_away(tmp_path: Path) -> None:
    def write(temporary: Path) -> None:
        temporary.write_text("new")
        sweep_parts(tmp_path)

    write_whole(tmp_path / "state", write)
    assert (tmp_path / "state").read_text() == "new"


def test_a_temporary_folder_of_a_killed_process_is_swept_away_and_that_of_a_live_one_is_not(
    tmp_path: Path,
) -> None:
    code = (
        "import sys, os, signal; from pathlib import Path; from kdrun.artefacts import aside\n"
        "with aside(Path(sys.argv[1])) as place:\n"
        " (place / 'half').write_text('x'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert done.returncode == -signal.SIGKILL and len(list(tmp_path.glob("*/half"))) == 1
    with aside(tmp_path) as place:
        (place / "mine").write_text("x")
        sweep_parts(tmp_path)
        assert list(tmp_path.iterdir()) == [place] and (place / "mine").exists()
    assert not list(tmp_path.iterdir())


HOLD = (
    "import sys; from pathlib import Path; from kdrun.artefacts import locked\n"
    "with locked(Path(sys.argv[1])):\n print('held', flush=True); sys.stdin.read()"
)


def test_a_lock_waits_for_its_holder_names_it_and_dies_with_it(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout and holder.stdout.readline() == "held\n"
    holders: list[str] = []

    def kill(who: str) -> None:
        holders.append(who)
        os.kill(holder.pid, signal.SIGKILL)

    with locked(tmp_path, waiting=kill):
        assert holders and f"process {holder.pid} on " in holders[0]
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


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def mode(path: Path) -> str:
    return oct(path.stat().st_mode & 0o777)


@pytest.mark.parametrize(
    ("mask", "wanted"), [(0, "0o666"), (0o022, "0o644"), (0o007, "0o660"), (0o077, "0o600")]
)
def test_modes_are_the_umasks_whatever_the_writer_does(tmp_path: Path, mask: int, wanted: str) -> None:
    def secretive(temporary: Path) -> None:
        temporary.write_text("x")
        temporary.chmod(0o600)

    def replacing(temporary: Path) -> None:
        temporary.unlink()
        secretive(temporary)

    with umask(mask), locked(tmp_path / "locked"), held([tmp_path / "held"]):
        for name, write in (("a", secretive), ("b", replacing)):
            write_whole(tmp_path / name, write)
        append_text(tmp_path / "log", "x")
        files = [tmp_path / name for name in ("a", "b", "log", "locked/.lock", "held/.held")]
        assert {mode(path) for path in files} == {wanted}


def test_no_link_is_written_through(tmp_path: Path) -> None:
    letter = tmp_path / "letter"
    letter.write_text("dear")
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in (".lock", ".held", "log.txt", f".model.json.{os.getpid()}.part", "model.json"):
        (folder / name).symlink_to(letter)
    for call in (lambda: locked(folder).__enter__(), lambda: held([folder]).__enter__()):
        with pytest.raises(KdrunError, match="is a link, which kdrun does not write to"):
            call()
    with pytest.raises(KdrunError, match="is a link"):
        append_text(folder / "log.txt", "x")
    write_json(folder / "model.json", {})
    assert not (folder / "model.json").is_symlink() and letter.read_text() == "dear"
    (tmp_path / "linked").symlink_to(folder)
    with pytest.raises(KdrunError, match="does not empty it"):
        empty(tmp_path / "linked")
    assert (folder / "model.json").exists()


HOLD_ON = (
    "import sys; from pathlib import Path; from kdrun.artefacts import held\n"
    "with held(map(Path, sys.argv[1:])):\n print('held', flush=True); sys.stdin.read()"
)


def holding(*folders: Path) -> subprocess.Popen[str]:
    """Another process that holds folders until it is killed or told to end."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD_ON, *map(str, folders)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout and process.stdout.readline() == "held\n"
    return process


def test_what_any_process_holds_is_not_removed(tmp_path: Path) -> None:
    one, two, inner = tmp_path / "one", tmp_path / "two", tmp_path / "one" / "tables" / "t"
    inner.mkdir(parents=True)
    (one / "model.json").touch()
    first, second = holding(one, two), holding(one)
    for process in (first, second):
        with unheld(one) as free:
            assert not free
        assert not remove(one) and not remove(inner, [one]) and (one / "model.json").exists()
        process.kill()
        process.communicate()
    assert remove(inner, [one]) and remove(one, [two]) and not one.exists()


def test_a_holder_that_ends_leaves_no_trace(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    two.mkdir()
    (two / "model.json").touch()
    process = holding(one, two)
    with held([one, two]):
        process.communicate("")
        assert one.exists() and (two / ".held").exists()
    assert not one.exists() and [path.name for path in two.iterdir()] == ["model.json"]


def test_who_begins_while_a_folder_is_removed_waits_and_holds_a_new_one(tmp_path: Path) -> None:
    folder, begun = tmp_path / "folder", threading.Event()
    folder.mkdir()
    (folder / ".lock").touch()
    (folder / "old").touch()
    found: list[bool] = []

    def begin() -> None:
        with locked(folder, lambda holder: begun.set()):
            found.append((folder / "old").exists())
            with unheld(folder) as free:
                found.append(free)

    with unheld(folder):
        thread = threading.Thread(target=begin)
        thread.start()
        begun.wait()
        (folder / "old").unlink()
        (folder / ".lock").unlink()
        folder.rmdir()
    thread.join()
    assert found == [False, False]


def test_a_folder_that_cannot_be_written_is_held_by_nobody_and_used(tmp_path: Path) -> None:
    with held([Path("/proc/none"), tmp_path / "one"]):
        assert (tmp_path / "one" / ".held").exists()


def test_a_folder_that_a_full_disk_has_no_room_for_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Path, **how: bool) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self))

    monkeypatch.setattr(Path, "mkdir", full)
    with pytest.raises(OSError, match="No space left"), held([tmp_path / "one"]):
        pass


def test_a_folder_of_another_user_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No file can be made in it: the user who runs the tests may be one who can, so it is refused here."""
    calls = []

    def refuse(path: Path, flags: int) -> int:
        calls.append(path)
        assert len(calls) < 9, "it tries for ever"
        if flags & os.O_CREAT:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", str(path))

    monkeypatch.setattr("kdrun.artefacts.open_own", refuse)
    with pytest.raises(PermissionError), locked(tmp_path):
        pass
    with held([tmp_path]):
        pass


TORCHS = "[enforce fail at inline_container.cc:672] . unexpected pos 576 vs 534"
SAFETENSORS = "Error while serializing: I/O error: No space left on device (os error 28)"


def test_a_full_disk_is_one_error_whatever_a_library_calls_it(tmp_path: Path) -> None:
    path = tmp_path / "state"
    write_text(path, "old")

    def torchs(temporary: Path) -> None:
        try:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        finally:
            raise RuntimeError(TORCHS)

    def safetensors(temporary: Path) -> None:
        raise ValueError(SAFETENSORS)

    for write in (torchs, safetensors):
        with pytest.raises(OSError, match=r"No space left on device: .*state") as caught:
            write_whole(path, write)
        assert full_disk(caught.value) == "the disk is full (No space left on device)"
    assert path.read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["state"]
    assert full_disk(OSError(errno.EACCES, "denied")) == full_disk(ValueError("bad")) == ""


def test_a_limit_on_the_size_of_files_counts_as_full(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(OSError) as caught:
            write_text(tmp_path / "log", "x" * 2000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert full_disk(caught.value) == "the disk is full (File too large)"


def test_a_write_removes_what_a_killed_write_of_the_same_file_left(tmp_path: Path) -> None:
    for name in (".a[1].json.7.part", ".a[1].jsonl.7.part", ".b.json.7.part"):
        (tmp_path / name).write_text("half")
    write_json(tmp_path / "a[1].json", {})
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"a[1].json", ".a[1].jsonl.7.part", ".b.json.7.part"}
