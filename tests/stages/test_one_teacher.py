"""One teacher, several students of different architectures: asked once, killed and continued as one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from kdrun.models.weights import read_weights
from kdrun.stages.groups import groups
from tests.stages.runs import play
from tests.stages.test_kills import same_weights
from tests.stages.test_together import student

STUDENTS = ("cnn_digits_small", "lightnn", "mlp")
SWEEP = (
    *("-m", f"student={','.join(STUDENTS)}", "runtime.table=off", "runtime.jobs=1", "threads=1"),
    *("recipe.teacher.epochs=1", "recipe.student.epochs=2", "control=false", "checkpoint.seconds=0"),
    *("evaluation.samples=3", "evaluation.seconds=0.02"),
)


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Path], list[int]]:
    """Outputs of the sweep as it is, killed three times, and with each student in a loop of its own."""
    root = tmp_path_factory.mktemp("one_teacher")
    folders = {name: root / name for name in ("whole", "killed", "alone")}
    args = {name: [*SWEEP, f"outputs_dir={folder}"] for name, folder in folders.items()}
    bombs: list[Any] = [["step", 19 + 25], ["wrote", "student.json", 2], ["write", "report.json", 2], None]
    plan = [{"args": args["whole"], "bomb": None}]
    plan += [{"args": args["killed"], "bomb": bomb} for bomb in bombs]
    plan += [{"args": [*args["alone"], "runtime.together=false"], "bomb": None}]
    return folders, play(plan)


def test_killed_and_continued_as_one_it_ends_with_the_same_bits(swept: Any) -> None:
    folders, statuses = swept
    assert statuses == [0, -9, -9, -9, 0, 0]
    assert same_weights(folders["whole"], folders["killed"]) == 2 + 3 * 3
    rows = [p.read_text().splitlines() for p in sorted(folders["killed"].glob("runs/*/metrics.jsonl"))]
    epochs = [[(json.loads(line)["stage"], json.loads(line)["epoch"]) for line in each] for each in rows]
    assert epochs == [[("teacher", 1), ("student", 1), ("student", 2)]] * 3


def test_each_ends_as_it_would_alone_at_its_own_learning_rate(swept: Any) -> None:
    folders, _ = swept
    for path in folders["whole"].glob("runs/*/last.safetensors"):
        one = read_weights(path)
        other = read_weights(folders["alone"] / path.relative_to(folders["whole"]))
        assert all(torch.equal(value, other[name]) for name, value in one.items()), path
    rates = [
        json.loads(p.read_text().splitlines()[-1])["lr"]
        for p in folders["whole"].glob("runs/*/metrics.jsonl")
    ]
    assert len(set(rates)) == 2, "that of cnn_digits_small is another"


def test_the_teacher_is_asked_once_for_all(swept: Any) -> None:
    folders, _ = swept
    for name, companions in (("whole", 2), ("alone", 0)):
        marks = [json.loads(path.read_text()) for path in folders[name].glob("runs/*/student.json")]
        assert [mark["teacher"]["forwards"] for mark in marks] == [2 * 600] * 3
        assert [len(mark["companions"]) for mark in marks] == [companions] * 3


def test_it_ends_with_the_picture_the_table_and_the_sentence(swept: Any) -> None:
    folders, _ = swept
    for name in ("whole", "killed"):
        (sweep,) = folders[name].glob("sweeps/*")
        page = (sweep / "results.md").read_text()
        assert "| ms | parameters | front |" in page and "![pareto](pareto.png)" in page
        assert "within 1 point of the teacher on validation" in page
        assert (sweep / "pareto.png").is_file()
        assert not list(folders[name].glob("runs/*/*.png")), "jobs are not drawn"


def test_architectures_share_a_live_teacher_and_one_that_is_cached_needs_no_sharing() -> None:
    live = ["runtime.table=off", "recipe.student.epochs=2"]
    jobs = [student(*live, f"student={name}", f"seed={seed}") for seed in (0, 1) for name in STUDENTS]
    assert [[training.seed for training in group] for group in groups(jobs)] == [[0] * 3, [1] * 3]
    finite = ["dataset.views.name=none", "recipe.student.epochs=2"]
    cached = [student(*finite, f"student={name}") for name in STUDENTS]
    assert [len(group) for group in groups(cached)] == [1, 1, 1]
    other_length = student("runtime.table=off", "student=mlp", "recipe.student.epochs=3")
    assert [len(group) for group in groups([*jobs[:2], other_length])] == [2, 1]
