"""`kdrun outputs`: what is there, who uses it, and what goes when it is asked for."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from kdrun.artefacts import held, locked
from kdrun.report.outputs import kept, prunable, size
from tests.commands.short import SHORT, Here
from tests.unreadable import unreadable

OWN = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}


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
        if path.name != ".lock":
            path.unlink()
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


def made(folder: Path, kind: str = "teacher") -> Path:
    """A folder with a mark."""
    folder.mkdir(parents=True)
    mark = {"role": kind, "fingerprint": "1", "weights": [], "finished": 0.0, "key": {}}
    (folder / "model.json").write_text(json.dumps(mark))
    return folder


def test_what_is_held_stays_and_models_stay_while_a_sweep_is_at_work(here: Here) -> None:
    root = here.root / "outputs"
    at_work, idle, sweep = root / "runs" / "at-work", root / "runs" / "idle", root / "sweeps" / "seed-1"
    for folder in (at_work, idle, sweep):
        folder.mkdir(parents=True)
    (sweep / "sweep.json").write_text("{}")
    with locked(idle):
        pass
    teacher, held_teacher = made(root / "models" / "teacher-x-1"), made(root / "models" / "teacher-x-2")
    with locked(at_work), held([held_teacher]):
        assert {Path(row["path"]).name for row in rows(here) if row["state"] == "in use"} == {
            *("at-work", "teacher-x-2")
        }
        with held([sweep]):
            assert reasons(here) == set()
        assert reasons(here) == {("run", "unfinished"), ("teacher", "used by no run")}
        assert here("outputs", "--prune", "--yes")[0] == 0
        assert at_work.exists() and held_teacher.exists() and not idle.exists() and not teacher.exists()
        code, _, err = here("outputs", str(held_teacher), "--prune", "--yes")
        assert code == 1 and err == f"{held_teacher}: in use, so it stays\n" and held_teacher.exists()
    assert here("outputs", "--prune", "--yes")[0] == 0
    assert not at_work.exists() and not held_teacher.exists()


def test_a_teacher_whose_table_is_written_is_held(tmp_path: Path) -> None:
    teacher = made(tmp_path / "outputs" / "models" / "teacher-x-1")
    with locked(teacher / "tables" / "t"):
        found = kept(tmp_path / "outputs")
        assert {each.state for each in found.kept} == {"in use"} and prunable(found) == []
    assert {each.kind for each, _ in prunable(kept(tmp_path / "outputs"))} == {"teacher", "table"}


def test_folders_of_other_tools_stay(here: Here) -> None:
    here.run()
    foreign = {
        "runs/detect/train7/weights.pt": "x",
        "runs/exp-1b99d2f00a11/state.pt": "x",  # a name as ours, and nothing that only kdrun leaves
        "runs/events.out": "x",
        "runs/lightning/.lock": "",
        "models/bert/w.bin": "x",
        "models/web/model.json": '{"format": "layers-model", "weightsManifest": []}',
        "models/yolo/tables/t/x": "x",
        "models/damaged/model.json": "{",
        "sweeps/abc123/config.yaml": "x",
    }
    for name, text in foreign.items():
        file = here.root / "outputs" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    code, out, err = here("outputs")
    assert (code, err) == (0, "") and "\n7 folders in models/ and runs/ of other tools: left alone" in out
    assert here("outputs", "--prune", "--yes")[:2] == (0, "nothing to remove\n")
    code, _, err = here("outputs", "outputs/models/bert", "--prune", "--yes")
    assert code == 2 and err == (
        "outputs/models/bert: is not a folder of a model, a run, a sweep, a search or a table of kdrun\n"
    )
    assert all((here.root / "outputs" / name).read_text() == text for name, text in foreign.items())


def test_what_can_be_continued_goes_only_if_it_is_named(here: Here) -> None:
    broken = here.root / "outputs" / "runs" / "digits-a-b-kd-0123456789ab"
    with locked(broken):
        (broken / "state.pt").write_text("hours")
    then = time.time() - 3 * 86400
    os.utime(broken / "state.pt", (then, then))
    code, out, _ = here("outputs")
    assert code == 0 and "can be continued, 3 d\n" in out and max(map(len, out.splitlines())) <= 80
    assert "--prune keeps what can be continued (1 training" in out
    assert [(row["state"], row["age"]) for row in rows(here)] == [("can be continued", 3 * 86400)]
    assert here("outputs", "--prune", "--yes")[1] == "nothing to remove\n"
    assert here("outputs", str(broken), "--prune", "--yes")[0] == 0 and not broken.exists()


def published(root: Path, command: str = "kdrun table two") -> Path:
    """The folder of a published table that has run no cell."""
    folder = root / "tables" / "two"
    for name in ("calls", "jobs"):
        (folder / name).mkdir(parents=True)
    (folder / "calls" / "20260101-000000-1.json").write_text(json.dumps({"command": command, "jobs": []}))
    return folder


def test_published_tables_are_a_kind_of_their_own(here: Here) -> None:
    here.run("dataset.views.name=none")
    root = here.root / "outputs"
    folder = published(root)
    (root / "tables" / "mine").mkdir()
    code, out, _ = here("outputs")
    assert code == 0 and "\n1 table " in out and "\n1 published table " in out and "  two " in out
    assert [row["kind"] for row in rows(here)].count("published table") == 1
    made(root / "models" / "teacher-x-0123456789ab")
    with held([folder]):
        assert reasons(here) == set()  # its cells may need each model and table
    assert reasons(here) == {("table", "can be made anew"), ("teacher", "used by no run")}
    teachers_table = next(root.glob("models/*/tables/*"))
    code, out, _ = here("outputs", str(folder), str(teachers_table), "--prune", "--yes")
    assert code == 0 and not folder.exists() and not teachers_table.exists()
    assert (root / "tables" / "mine").exists()
    code, _, err = here("outputs", "outputs/tables/mine", "--prune", "--yes")
    assert code == 2 and "outputs/tables/mine: is not a folder of " in err


def test_a_plan_says_what_a_run_uses(here: Here) -> None:
    run = here.run()
    (run / "report.json").unlink()
    assert reasons(here) == set()
    plan = json.loads((run / "plan.json").read_text())
    plan["trainings"] = [each for each in plan["trainings"] if each["name"] != "control"]
    (run / "plan.json").write_text(json.dumps(plan))
    assert reasons(here) == {("control", "used by no run")}


def test_what_a_run_without_a_plan_uses_stays(here: Here) -> None:
    run = here.run()
    for name in ("plan.json", "report.json"):
        (run / name).unlink()
    assert reasons(here) == set()
    made(here.root / "outputs" / "models" / "teacher-x-0123456789ab")
    made(here.root / "outputs" / "models" / "control-x-0123456789ab", "control")
    assert reasons(here) == {("teacher", "used by no run")}  # the control could be the run's own


def test_what_a_broken_run_needs_stays(here: Here) -> None:
    run = here.run()
    for name in ("report.json", "student.json"):
        (run / name).unlink()
    (run / "state.pt").write_text("hours")
    assert reasons(here) == set()
    (run / "plan.json").unlink()
    assert reasons(here) == {("teacher", "used by no run"), ("control", "used by no run")}


def test_named_folders_go_with_what_is_lost_by_it(here: Here) -> None:
    run = here.run()
    teacher = next(here.root.glob("outputs/models/teacher-*"))
    code, out, _ = here("outputs", str(run), str(teacher))
    assert code == 0 and "\n1 teacher " in out and "\n1 run " in out and "control" not in out
    code, out, _ = here("outputs", str(run), str(teacher), "--prune", "--yes")
    assert code == 0 and "named, used by 1 run\n" in out and not run.exists() and not teacher.exists()
    code, _, err = here("outputs", "outputs", "outputs")
    assert code == 2 and "one folder of outputs at a time" in err


DAMAGE = ("", "{", "[]", "5", "null", "\xff", "{}", '{"folders": ["a"]}', '{"key": 5}', '{"trainings": 3}')


@pytest.mark.parametrize("name", ["report.json", "student.json", "plan.json", "model.json"])
@pytest.mark.parametrize("text", DAMAGE)
def test_a_damaged_file_is_named_and_stops_nothing(here: Here, name: str, text: str) -> None:
    run = here.run()
    folder = next(here.root.glob("outputs/models/teacher-*")) if name == "model.json" else run
    (folder / name).write_text(text)
    code, out, err = here("outputs")
    assert code == 0 and "\n1 teacher " in out and "\n1 control " in out and "\n1 run " in out
    assert err.startswith(f"outputs/{folder.parent.name}/{folder.name}/{name}: is damaged: ")
    assert err.count("\n") == 1
    (folder / name).unlink()
    (folder / name).symlink_to(run / "report.md")
    assert here("outputs")[2].endswith(f"{name}: is a link\n")


BESIDE = """
import sys, time
from pathlib import Path
import kdrun.stages.make as make
from kdrun.cli import main
there = make._is_ready
def waiting(training):
    if training.kind == "student":
        print("between", flush=True)
        sys.stdin.readline()
    return there(training)
make._is_ready = waiting
sys.exit(main(sys.argv[1:]))
"""


def test_a_run_at_work_keeps_its_new_teacher_between_two_trainings(here: Here) -> None:
    run = subprocess.Popen(
        [sys.executable, "-c", BESIDE, *SHORT],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=OWN,
    )
    assert run.stdout and "between\n" in iter(run.stdout.readline, "")
    code, out, err = here("outputs", "--prune", "--yes")
    assert (code, out, err) == (0, "nothing to remove\n", "")
    rest, errors = run.communicate("\n")
    assert run.returncode == 0 and "top-1 test" in rest and not errors
    assert not list(here.root.glob("outputs/*/*/.held"))


def test_what_may_not_be_read_stays_with_all_that_it_could_use(here: Here) -> None:
    run = here.run()
    with unreadable(here.root / "outputs") as place:
        code, out, err = here("outputs", str(place))
        reading = json.loads(here("outputs", str(place), "--format", "json")[1])
    assert (
        code == 0 and "cannot be read" in out and f"{run.name}/report.json: cannot be read (Permission" in err
    )
    assert {row["state"] for row in reading} == {"cannot be read"} and not any(
        "prune" in row for row in reading
    )
    assert all(run.name in row["users"] for row in reading if row["kind"] != "run")


def test_a_closed_folder_hides_no_other(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    here.run()
    real = os.access
    teacher = next(here.root.glob("outputs/models/teacher-*"))
    monkeypatch.setattr(
        os,
        "access",
        lambda path, *more, **how: Path(path).name != teacher.name and real(path, *more, **how),
    )
    code, out, err = here("outputs")
    assert code == 0 and err == f"outputs/models/{teacher.name}: cannot be read (Permission denied)\n"
    assert "1 run " in out and "cannot be read" in out and "--prune would" not in out


def test_sparse_files_count_what_they_take(tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(10**9)
    assert size(tmp_path) < 10**6


def test_a_folder_of_something_else_is_refused(here: Here) -> None:
    code, out, err = here("outputs", str(here.root))
    assert (code, out) == (2, "") and "holds nothing of kdrun" in err and err.count("\n") == 1
