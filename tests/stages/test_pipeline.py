"""Whole runs, short ones: what is kept, what is reused, what is refused before anything is trained."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from kdrun import artefacts
from kdrun.cli import main
from kdrun.models.weights import read_weights
from kdrun.training.table import AnswerTable
from tests.stages.runs import SHORT, begun, ended, report

Go = Callable[..., tuple[int, str, str]]


@pytest.fixture
def go(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Go:
    """Runs a short kdrun in a folder of its own; gives exit status, what was printed, and the errors."""
    monkeypatch.chdir(tmp_path)

    def run(*args: str) -> tuple[int, str, str]:
        status = main([*SHORT, *args])
        out, err = capsys.readouterr()
        return status, out, err

    return run


def folder(pattern: str) -> Path:
    (path,) = Path("outputs").glob(pattern)
    return path


def times(pattern: str) -> dict[str, int]:
    return {str(p): p.stat().st_mtime_ns for p in Path("outputs").glob(pattern)}


def test_a_run_leaves_what_it_promises(go: Go) -> None:
    status, out, err = go("evaluation.plots=true", "evaluation.latency=true", "evaluation.seconds=0.1")
    assert (status, err) == (0, "")
    run = folder("runs/*")
    names = {p.name for p in run.iterdir()}
    assert names >= {
        "config.yaml", "log.txt", "metrics.jsonl", "student.safetensors", "report.json", "report.md",
        "curves.png", "confusion.png",
    }  # fmt: skip
    assert "loss   0.1 CE + 0.9 2^2 KL(teacher || student, T=2)" in out
    assert "600 images, 60 labelled" in out and "60 labelled images, no teacher" in out
    assert "\x1b" not in out and "\r" not in out
    assert max(map(len, out.splitlines())) <= 120
    found = report()
    assert set(found["models"]) == {"teacher", "student", "control"}
    assert found["models"]["student"]["last"]["test"]["n"] == 1000
    assert found["comparison"]["verdict"] in ("better", "worse", "no measurable difference")
    assert found["dataset"] == {
        "name": "digits_few", "classes": 10, "train": 600, "labelled": 60, "validation": 197, "test": 1000,
        "image_shape": [1, 8, 8], "most_frequent": 10.2,
    }  # fmt: skip


def test_the_student_can_be_used_from_its_file_alone(go: Go) -> None:
    go()
    path = folder("runs/*/student.safetensors")
    with safe_open(path, framework="pt") as file:
        about = {name: json.loads(text) for name, text in file.metadata().items() if name != "format"}
    assert about["classes"] == [str(digit) for digit in range(10)]
    assert about["normalisation"] == {"white": 16, "mean": [0.0], "std": [1.0]}
    assert about["model"]["name"] == "cnn_digits_small" and about["input_size"] == 8
    last = read_weights(folder("runs/*/last.safetensors"))
    assert all(torch.equal(last[name], tensor) for name, tensor in read_weights(path).items())


def test_a_finished_run_is_shown_again_and_not_repeated(go: Go) -> None:
    go()
    before = times("**/*.safetensors")
    status, out, _ = go()
    assert status == 0 and "finished earlier; fresh=true starts over" in out
    assert "top-1 test" in out and times("**/*.safetensors") == before


def test_fresh_starts_over_each_time_in_one_process(go: Go) -> None:
    go("fresh=true")
    before = times("**/last.safetensors")
    status, out, _ = go("fresh=true")
    after = times("**/last.safetensors")
    assert status == 0 and "finished earlier" not in out
    assert after.keys() == before.keys() and all(after[name] > before[name] for name in before)


def test_a_table_with_other_answers_is_kept_and_another_one_is_filled(go: Go) -> None:
    go("dataset.views.name=none", "temperature=2")
    (table,) = Path("outputs/models").glob("*/tables/*")
    before = table / "logits.f32"
    assert rewritten(table)  # as on a machine whose answers differ
    content = before.read_bytes()
    _, out, _ = go("dataset.views.name=none", "temperature=3")
    said = f"cache not used, and kept: its answers differ from those of the teacher here: {table}"
    assert said in " ".join(out.split())
    assert before.read_bytes() == content
    other = table.with_name(f"{table.name}-2")
    filled = (other / "logits.f32").stat().st_size
    assert filled
    _, out, _ = go("dataset.views.name=none", "temperature=4")
    assert f": {other}" not in out  # whose answers are those of the teacher here


def rewritten(folder: Path) -> bool:
    """Puts other answers into a table, with the checksums that belong to them."""
    header = json.loads((folder / "table.json").read_text())
    table = AnswerTable(folder, header["codes"], header["widths"], header["key"])
    codes = np.flatnonzero(table.has(np.arange(len(table))))
    other = {name: rows + 1 for name, rows in table.read(codes).items()}
    table.clear()
    table.write(codes, other)
    table.close()
    return bool(len(codes))


def test_a_control_that_is_asked_for_later_is_added(go: Go) -> None:
    go("control=false")
    assert "control" not in report()["models"] and "gain_top1" not in report()["comparison"]
    before = times("runs/*/last.safetensors") | times("models/*/last.safetensors")
    status, out, _ = go()
    assert status == 0 and "student    cached" in out
    assert "control" in report()["models"]
    assert times("**/last.safetensors").items() >= before.items()


def test_alpha_zero_is_the_control_bit_for_bit(go: Go) -> None:
    go("alpha=0")
    student = folder("runs/*/last.safetensors").read_bytes()
    assert student == folder("models/control-*/last.safetensors").read_bytes()


def test_seeds_and_alphas_share_what_they_can(go: Go) -> None:
    go("seed=0")
    go("seed=1")
    go("seed=1", "alpha=0.5")
    assert len(times("runs/*/report.json")) == 3
    assert len(times("models/teacher-*/model.json")) == 1
    assert len(times("models/control-*/model.json")) == 2


def test_stages_by_themselves(go: Go) -> None:
    status, _, err = go("stages=[evaluate]")
    assert status == 2 and err.startswith("stages=[evaluate]: the student is not trained yet")
    status, _, err = go("stages=[student]")
    assert status == 2 and err.startswith("stages=[student]: the teacher is not trained yet")
    assert not list(Path("outputs").glob("**/*.safetensors"))
    assert go("stages=[teacher]")[0] == 0
    assert [p.parent.name for p in Path("outputs").glob("runs/*/*")] == []
    before = times("models/teacher-*/last.safetensors")
    assert go("stages=[student]")[0] == 0
    assert not list(Path("outputs").glob("runs/*/report.json"))
    assert go("stages=[evaluate]")[0] == 0
    assert times("models/teacher-*/last.safetensors") == before
    assert set(report()["models"]) == {"teacher", "student", "control"}


def test_a_teacher_from_a_file_is_not_trained(go: Go) -> None:
    go("stages=[teacher]")
    path = folder("models/teacher-*/last.safetensors").rename("teacher.safetensors")
    status, out, _ = go(f"teacher.checkpoint={path}", "outputs_dir=other")
    assert status == 0 and "loaded   teacher.safetensors" in out
    assert not list(Path("other").glob("models/teacher-*"))
    assert report(Path("other"))["models"]["teacher"]["source"] == "checkpoint"


def test_checkpoints_that_do_not_fit_are_refused_before_training(go: Go) -> None:
    go("stages=[teacher]")
    right = folder("models/teacher-*/last.safetensors")
    Path("cut.safetensors").write_bytes(right.read_bytes()[:1000])
    for path, problem in (
        ("none.pt", "no such file"),
        ("cut.safetensors", "damaged, truncated"),
    ):
        status, _, err = go(f"teacher.checkpoint={path}", "outputs_dir=other")
        assert status == 2 and problem in err and err.count("\n") == 1, err
    status, _, err = go(f"student.checkpoint={right}", "outputs_dir=other")
    assert status == 2 and "weights of another architecture" in err and err.count("\n") == 1
    assert not Path("other").exists()


def test_a_student_checkpoint_alone_can_be_evaluated(go: Go) -> None:
    go()
    path = folder("runs/*/student.safetensors")
    top1 = report()["models"]["student"]["last"]["test"]["top1"]
    assert go(f"student.checkpoint={path}", "stages=[evaluate]", "outputs_dir=other")[0] == 0
    found = report(Path("other"))["models"]
    assert found["student"]["source"] == "checkpoint" and found["student"]["last"]["test"]["top1"] == top1


def test_a_damaged_state_is_named_and_kept_and_the_training_begins_anew(go: Go) -> None:
    go("stages=[teacher]")
    teacher = folder("models/teacher-*")
    (teacher / "model.json").unlink()
    (teacher / "state.pt").write_bytes(b"cut")
    status, out, err = go()
    assert (status, err) == (0, "") and "state.pt: is damaged; kept as state.damaged, and the" in out
    assert (teacher / "state.damaged").read_bytes() == b"cut"


def test_a_vanished_weights_file_is_made_again(go: Go) -> None:
    go()
    path = folder("models/teacher-*/last.safetensors")
    content = path.read_bytes()
    path.unlink()
    assert go()[0] == 0
    assert path.read_bytes() == content


def test_a_full_disk_is_one_line_and_keeps_the_last_state(go: Go, monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = artefacts.write_whole, 0

    def full(path: Path, write: Callable[[Path], object]) -> None:
        nonlocal calls
        calls += path.name == "state.pt"
        if calls == 2 and path.name == "state.pt":
            raise OSError(28, "No space left on device", str(path))
        real(path, write)

    with monkeypatch.context() as patched:
        patched.setattr("kdrun.training.checkpoint.write_whole", full)
        status, _, err = go("checkpoint.seconds=0")
    assert status == 1 and "No space left on device" in err and err.count("\n") == 1
    assert "No space left" in folder("runs/*/error.txt").read_text()
    assert folder("models/teacher-*/state.pt").stat().st_size > 0


@pytest.mark.parametrize(
    ("place", "problem"), [("/proc/nope", "cannot be written"), ("file", "is a file, not a folder")]
)
def test_a_folder_that_cannot_be_written_is_said_before_training(go: Go, place: str, problem: str) -> None:
    Path("file").write_text("not a folder")
    status, _, err = go(f"outputs_dir={place}")
    assert status == 2 and err.startswith("outputs_dir=") and problem in err


def test_a_file_in_the_place_of_a_folder_of_models_is_one_line(go: Go) -> None:
    Path("outputs").mkdir()
    Path("outputs/models").write_text("a file")
    status, _, err = go()
    assert status == 2 and err.endswith("outputs/models is a file, not a folder\n") and err.count("\n") == 1


def test_one_class_data_is_refused(go: Go) -> None:
    status, _, err = go("dataset=fake", "dataset.classes=1")
    assert status == 2 and err.count("\n") == 1 and err.startswith("dataset")


def test_two_processes_train_one_teacher_once(tmp_path: Path) -> None:
    words = [*SHORT, "recipe.teacher.epochs=12", "control=false", f"outputs_dir={tmp_path / 'outputs'}"]
    screens = [tmp_path / "zero.txt", tmp_path / "one.txt"]
    both = [begun([*words, f"seed={seed}"], out=str(screen)) for seed, screen in enumerate(screens)]
    assert [ended(process) for process in both] == [0, 0]
    texts = [screen.read_text() for screen in screens]
    trained = [sum(f" teacher  {epoch:>2}/12 " in text for epoch in range(1, 13)) for text in texts]
    assert sorted(trained) == [0, 12]
    waited = texts[trained.index(0)]
    assert "waits for process" in waited or "cached" in waited


def test_the_default_run_imports_neither_torchvision_nor_scikit_learn_nor_the_compiler(
    tmp_path: Path,
) -> None:
    code = (
        "import sys; from kdrun.cli import main\n"
        f"assert main({list(SHORT)!r}) == 0\n"
        "heavy = ('torchvision', 'sklearn', 'torch._dynamo', 'matplotlib.pyplot')\n"
        "print([m for m in heavy if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_student_checkpoint_is_where_training_and_control_begin(go: Go) -> None:
    go("control=false")
    start = folder("runs/*/student.safetensors").rename("start.safetensors")
    still = ("recipe.student.optimiser=sgd", "recipe.student.lr=1e-12", "recipe.student.weight_decay=0")
    assert go(f"student.checkpoint={start}", *still, "outputs_dir=other")[0] == 0
    begun = read_weights(start)
    for path in (
        *Path("other").glob("runs/*/last.safetensors"),
        *Path("other").glob("models/control-*/last.*"),
    ):
        now = read_weights(path)
        assert all(torch.allclose(now[name], tensor, atol=1e-6) for name, tensor in begun.items()), path
    assert len(list(Path("other").glob("*/*/last.safetensors"))) == 3
