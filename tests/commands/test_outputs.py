"""`kdrun outputs`: what is there, who uses it, and what goes when it is asked for."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from kdrun.artefacts import locked
from kdrun.report.outputs import held, kept, prunable, size
from tests.commands.short import SHORT, Here


def names(here: Here) -> set[str]:
    return {path.name for path in (*here.root.glob("outputs/models/*"), *here.root.glob("outputs/runs/*"))}


def rows(here: Here) -> list[dict[str, Any]]:
    return list(json.loads(here("outputs", "--format", "json")[1]))


def reasons(here: Here) -> set[tuple[str, str]]:
    return {(row["kind"], row["prune"]) for row in rows(here) if "prune" in row}


def test_it_shows_what_is_kept_and_who_uses_it(here: Here) -> None:
    here.run("dataset.views.name=none")
    here.run("dataset.views.name=none", "temperature=3")
    here.run("dataset.views.name=none", "alpha=0")
    code, out, err = here("outputs")
    assert (code, err) == (0, "") and max(map(len, out.splitlines())) <= 80
    for line in ("1 teacher ", "1 control ", "3 runs ", "1 table "):
        assert f"\n{line}" in out
    by_kind = {row["kind"]: row for row in rows(here)}
    assert len(by_kind["teacher"]["users"]) == len(by_kind["control"]["users"]) == 3
    assert by_kind["table"]["prune"] == "can be made anew" and by_kind["run"]["state"] == "finished"
    assert 600 * 40 < by_kind["table"]["bytes"] < 600 * 200


def test_what_no_run_uses_and_what_is_unfinished_goes_when_it_is_agreed(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    here.run()
    gone = here.run("seed=1", "teacher.seed=1")
    before = names(here)
    assert reasons(here) == set()
    assert here("outputs", "--prune")[:2] == (0, "nothing to remove\n")
    for path in gone.iterdir():
        path.unlink()
    (gone / "state.pt").touch()
    assert reasons(here) == {
        ("teacher", "used by no run"),
        ("control", "used by no run"),
        ("run", "unfinished"),
    }
    there = here.files()
    monkeypatch.setattr(sys, "stdin", io.StringIO("n\n"))
    assert "nothing was removed" in here("outputs", "--prune")[1] and here.files() == there
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    assert "nothing was removed" in here("outputs", "--prune")[1] and here.files() == there
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    code, out, _ = here("outputs", "--prune")
    assert code == 0 and "remove 3 folders, " in out and "removed 3 folders, " in out
    left = names(here)
    assert len(before) == 6 and len(left) == 3 and gone.name not in left
    assert "finished earlier" in here(*SHORT)[1]


def test_tables_go_and_are_made_anew(here: Here) -> None:
    here.run("dataset.views.name=none")
    assert here("outputs", "--prune", "--yes")[0] == 0
    assert not list(here.root.glob("outputs/models/*/tables/*")) and len(names(here)) == 3
    here.run("dataset.views.name=none", "temperature=3")
    assert len(list(here.root.glob("outputs/models/*/tables/*"))) == 1


def test_what_is_held_stays_and_models_stay_while_a_run_is_at_work(here: Here) -> None:
    unfinished = here.root / "outputs" / "runs" / "at-work"
    idle = here.root / "outputs" / "runs" / "idle"
    teacher = here.root / "outputs" / "models" / "teacher-x-1"
    for folder in (unfinished, idle, teacher):
        folder.mkdir(parents=True)
    (teacher / "model.json").write_text("{}")
    with locked(unfinished):
        assert {row["state"] for row in rows(here) if "at-work" in row["path"]} == {"in use"}
        assert reasons(here) == {("run", "unfinished")}
        assert here("outputs", "--prune", "--yes")[0] == 0
        assert unfinished.exists() and teacher.exists() and not idle.exists()
    assert here("outputs", "--prune", "--yes")[0] == 0
    assert not unfinished.exists() and not teacher.exists()


def test_a_teacher_whose_table_is_written_is_held(tmp_path: Path) -> None:
    teacher = tmp_path / "outputs" / "models" / "teacher-x-1"
    with locked(teacher / "tables" / "t"), held(teacher) as free:
        assert not free
        assert prunable(kept(tmp_path / "outputs")) == []
    assert {each.kind for each, _ in prunable(kept(tmp_path / "outputs"))} == {"teacher", "table"}


def test_sparse_files_count_what_they_take(tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(10**9)
    assert size(tmp_path) < 10**6


def test_a_folder_of_something_else_is_refused(here: Here) -> None:
    code, out, err = here("outputs", str(here.root))
    assert (code, out) == (2, "") and "holds nothing of kdrun" in err and err.count("\n") == 1
