"""What becomes of files that are damaged: they are named, never used, and made anew."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import pytest
from safetensors.torch import save_file

from kdrun.artefacts import locked, write_json
from kdrun.models.weights import read_weights
from kdrun.stages import trainee
from tests.commands.short import SHORT, Here
from tests.sampled import sampled

AGAIN = ("temperature=3", "control=false")
"""Another student of the same teacher."""


def one_bit(path: Path) -> bytes:
    """Changes one bit in the middle of a file; returns what was there."""
    whole = path.read_bytes()
    place = len(whole) - len(whole) // 4
    path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    return whole


def teacher(here: Here) -> Path:
    return next(here.root.glob("outputs/models/teacher-*"))


def trained(out: str) -> list[str]:
    """The models whose first epoch was done."""
    return [line.split()[1] for line in out.splitlines() if line[2:3] == ":" and " 1/2 " in line]


@pytest.mark.parametrize("name", ["last", "val_best"])
def test_damaged_weights_of_a_teacher_are_made_anew(here: Here, name: str) -> None:
    here.run()
    path = teacher(here) / f"{name}.safetensors"
    whole = one_bit(path)
    code, out, err = here(*SHORT, *AGAIN)
    assert (code, err) == (0, "") and trained(out) == ["teacher", "student"]
    shown = path.relative_to(here.root)
    assert f"{shown}: is damaged: its content is not what was written (SHA-256); trained anew" in out
    assert path.read_bytes() == whole
    assert "damaged" not in here(*SHORT, *AGAIN, "seed=1")[1]


@pytest.mark.parametrize("place", ["runs/*/last", "runs/*/val_best", "models/control-*/last"])
def test_damaged_weights_are_not_evaluated(here: Here, place: str) -> None:
    run = here.run()
    (run / "report.json").unlink()
    path = next(here.root.glob(f"outputs/{place}.safetensors"))
    whole = one_bit(path)
    code, out, err = here(*SHORT)
    role = "student" if place.startswith("runs") else "control"
    assert (code, err) == (0, "") and trained(out) == [role] and path.read_bytes() == whole


def test_a_file_that_has_another_trainings_weights_is_damaged(here: Here) -> None:
    run = here.run()
    kept = teacher(here) / "last.safetensors"
    shutil.copy(next(here.root.glob("outputs/models/control-*/last.safetensors")), kept)
    assert trained(here(*SHORT, *AGAIN)[1]) == ["teacher", "student"] and run.exists()


@pytest.mark.parametrize("pattern", ["*.json", "*.safetensors", "[a-z]*"])
def test_folders_in_the_place_of_files_are_like_damaged_files(here: Here, pattern: str) -> None:
    """Marks, weights, then everything. What is in such a folder is kept."""
    run = here.run()
    files = [path for path in here.root.glob(f"outputs/*/*/{pattern}") if path.is_file()]
    for path in files:
        path.unlink()
        path.mkdir()
        (path / "mine").write_text("a note")
    code, out, err = here(*SHORT)
    assert (code, err) == (0, "") and trained(out) == ["teacher", "student", "control"]
    assert [path for path in files if not path.is_file()] == []
    unsaid = [path for path in files if f"{path.name}: is" not in out and path.suffix in (".json", ".png")]
    assert unsaid == [], "what is made anew is said"
    asides = [path.with_name(f"{path.name}.damaged") / "mine" for path in files]
    assert len(asides) > 4 and [note for note in asides if not note.is_file()] == []
    assert here(*SHORT)[0] == 0 and (run / "report.json").is_file()


def test_a_damaged_teacher_that_is_not_to_be_trained_is_refused(here: Here) -> None:
    here.run()
    path = teacher(here) / "last.safetensors"
    one_bit(path)
    code, out, err = here(*SHORT, *AGAIN, "stages=[student,evaluate]")
    assert code == 2 and err == (
        f"{path.relative_to(here.root)}: is damaged: its content is not what was written (SHA-256); "
        "the stage teacher trains it anew\n"
    )
    assert trained(out) == [] and (teacher(here) / "model.json").exists()


@pytest.mark.parametrize("command", [(), ("check",)])
def test_a_damaged_file_that_is_named_is_refused(here: Here, command: tuple[str, ...]) -> None:
    run = here.run()
    for path in (teacher(here) / "last.safetensors", run / "student.safetensors"):
        mine = here.root / f"mine-{path.name}"
        shutil.copy(path, mine)
        one_bit(mine)
        key = "teacher" if path.name.startswith("last") else "student"
        code, _, err = here(*command, *SHORT, f"{key}.checkpoint={mine.name}")
        assert code == 2 and err.startswith(f"checkpoint={mine.name}: is damaged") and err.count("\n") == 1


def test_a_sweep_makes_anew_what_is_damaged(here: Here) -> None:
    here.run()
    path = teacher(here) / "val_best.safetensors"
    whole = one_bit(path)
    code, out, err = here("-m", *SHORT, *AGAIN[1:], "temperature=2,3")
    assert (code, err) == (0, "") and out.count("val_best.safetensors: is damaged") == 1
    assert path.read_bytes() == whole


def test_what_an_earlier_version_left_is_found_and_used(here: Here) -> None:
    run = here.run()
    for mark in here.root.glob("outputs/*/*/*.json"):
        record = json.loads(mark.read_text())
        if record.pop("sha256", None):
            mark.write_text(json.dumps(record))
    for path in here.root.glob("outputs/*/*/*.safetensors"):
        if path.name != "student.safetensors":
            save_file(read_weights(path), path, metadata={"format": "pt"})
    before = here.files()
    assert "finished earlier" in here(*SHORT)[1] and here.files() == before
    (run / "report.json").unlink()
    assert trained(here(*SHORT)[1]) == []
    assert trained(here(*SHORT, *AGAIN)[1]) == ["student"]


MARKS = ("", "{", "{}", "[]", "5", "null", '{"weights": 3}')


ROLES = ("teacher", "student", "control")


@pytest.mark.parametrize(
    ("roles", "text"),
    sampled([*((ROLES, text) for text in MARKS), *(((role,), MARKS[1]) for role in ROLES)], 3),
)
def test_a_damaged_mark_is_named_and_the_training_is_done_anew(
    here: Here, roles: tuple[str, ...], text: str
) -> None:
    run = here.run()
    last = {}
    for role in roles:
        models = next(here.root.glob(f"outputs/models/{role}-*"), run)
        mark = models / ("student.json" if role == "student" else "model.json")
        last[mark] = (models / "last.safetensors").read_bytes()
        mark.write_text(text)
    code, out, err = here(*SHORT)
    assert (code, err) == (0, "") and trained(out) == list(roles)
    for mark, before in last.items():
        assert f"{mark.relative_to(here.root)}: is damaged: " in out
        assert (mark.parent / "last.safetensors").read_bytes() == before
    assert here("check", *SHORT)[0] == 0


def test_a_damaged_mark_that_is_needed_and_not_made_is_one_line(here: Here) -> None:
    here.run()
    (teacher(here) / "model.json").write_text("{}")
    code, _, err = here(*SHORT, *AGAIN, "stages=[student,evaluate]")
    assert code == 2 and "model.json: is damaged: lacks " in err and err.count("\n") == 1


def test_rows_of_metrics_that_are_none_are_dropped(here: Here) -> None:
    run = here.run()
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{}\n1\n{"stage": "student"}\n')
    (run / "report.json").unlink()
    code, _, err = here(*SHORT)
    assert (code, err) == (0, "")
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert len(rows) == 6 and all("loss" in row for row in rows)


def test_links_in_a_shared_folder_lead_nowhere(here: Here) -> None:
    letter = here.root / "letter"
    letter.write_text("dear")
    run = here.run()
    for name in ("student.json", "report.json", "report.md", "metrics.jsonl", "config.yaml", "plan.json"):
        (run / name).unlink()
        (run / name).symlink_to(letter)
    code, _, err = here(*SHORT)
    assert letter.read_text() == "dear"
    assert (code, err) == (0, "") or (code == 1 and "is a link" in err and err.count("\n") == 1)
    (run / "log.txt").unlink(missing_ok=True)
    (run / "log.txt").symlink_to(letter)
    (run / ".lock").unlink()
    (run / ".lock").symlink_to(letter)
    code, _, err = here(*SHORT, "fresh=true")
    assert letter.read_text() == "dear" and code == 1 and "is a link" in err and err.count("\n") == 1


def test_a_run_folder_that_is_a_link_is_not_emptied(here: Here) -> None:
    run = here.run()
    home = here.root / "home"
    home.mkdir()
    (home / "letter").write_text("dear")
    shutil.rmtree(run)
    run.symlink_to(home)
    code, _, err = here(*SHORT, "fresh=true")
    assert code == 1 and "is a link, so kdrun does not empty it" in err
    assert (home / "letter").read_text() == "dear"
    with locked(home):
        pass


def test_fresh_starts_over_although_the_clock_was_set_back(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    here.run()
    real, day = time.time, 86_400
    monkeypatch.setattr(time, "time", lambda: real() - day)  # before the models were trained
    assert trained(here(*SHORT, "fresh=true")[1]) == ["teacher", "student", "control"]


def test_a_clock_that_is_set_back_meanwhile_repeats_nothing(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, day, calls = time.time, 86_400, []
    monkeypatch.setattr(trainee, "write_json", lambda *file: calls.append(write_json(*file)))
    monkeypatch.setattr(time, "time", lambda: real() - day * len(calls))
    code, out, err = here(*SHORT, "-m", "temperature=1,2", "fresh=true", "runtime.jobs=1")
    assert (code, err, len(calls)) == (0, "", 4) and "2 run" in out


ODD = {
    "a pipe": os.mkfifo,
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "a folder": Path.mkdir,
}


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize(
    "name",
    [
        "runs/*/plan.json",
        "runs/*/report.json",
        "models/teacher-*/last.safetensors",
        "models/teacher-*/model.json",
    ],
)
def test_what_has_no_end_is_not_waited_for(here: Here, name: str, kind: str) -> None:
    here.run()
    path = next(here.root.glob(f"outputs/{name}"))
    path.unlink()
    ODD[kind](path)
    for words in (["outputs"], ["report", "outputs/runs"], [*SHORT, "stages=[teacher]"], [*SHORT]):
        code, _, err = here(*words)
        assert code in (0, 1, 2) and len(err.splitlines()) <= 2, err
