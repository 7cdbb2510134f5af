"""quick=true: what a trial shortens, and that it cannot be taken for a result."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from torch import randint, tensor, zeros

from kdrun.cli import main
from kdrun.data.images import Part
from kdrun.data.select import few
from kdrun.errors import KdrunError
from kdrun.report.caption import TRIAL
from kdrun.report.runs import runs_in
from tests.config.composed import composed


def test_everything_is_short_and_apart() -> None:
    run = composed("quick=true recipe=crd method=ab phase_one.epochs=30 outputs_dir=here/").run
    recipes = run.recipe
    assert (recipes.teacher.epochs, recipes.teacher.batch) == (1, 32)
    assert (recipes.student.epochs, run.phase_one.epochs) == (2, 1)
    assert (run.outputs_dir, run.dataset["name"]) == ("here/quick", "digits_few-quick")
    assert composed("quick=false").run == composed("").run


def test_a_trial_without_a_folder_does_not_go_to_the_root_of_the_disk() -> None:
    with pytest.raises(KdrunError, match=r"^outputs_dir='': a folder is needed$"):
        composed("quick=true outputs_dir=''")
    assert composed("quick=true outputs_dir=/").run.outputs_dir == "/quick"


def test_a_term_that_begins_with_nothing_is_tried() -> None:
    run = composed("quick=true method=reviewkd").run
    assert run.loss["review"]["weight"] == 1.0
    assert composed("quick=true alpha=0.9..0@40").run.alpha == 0.9


@pytest.mark.parametrize("line", ["recipe.student.batch=x", "alpha={from:a,to:1,epochs:3}"])
def test_mistakes_are_named_as_ever(line: str) -> None:
    with pytest.raises(KdrunError, match=r"batch=x: must be a whole|alpha\.from=a: a number"):
        composed(f"quick=true {line}")


def test_few_images_are_of_all_classes_and_half_unlabelled() -> None:
    labels = tensor([c for c in range(10) for _ in range(30)])
    assert few(Part(zeros(300, 1, 2, 2), labels), 64).labels.bincount().tolist() == [7] * 4 + [6] * 6
    hidden = labels.where(randint(0, 2, (300,)) == 0, -1)
    known = few(Part(zeros(300, 1, 2, 2), hidden), 64).labels
    assert len(known) == 64 and int((known >= 0).sum()) == 32
    assert len(few(Part(zeros(300, 1, 2, 2), labels), 900).labels) == 300


def test_a_trial_runs_and_says_what_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["quick=true", "evaluation.plots=false", f"outputs_dir={tmp_path}", "threads=1"]
    assert main(line) == 0
    out = capsys.readouterr().out
    assert TRIAL in out and "Two batches say nothing" in out and "points" not in out
    (run,) = (tmp_path / "quick" / "runs").iterdir()
    assert "-quick-" in run.name and not (tmp_path / "runs").exists()
    assert "A trial" in (run / "report.md").read_text()
    assert json.loads((run / "report.json").read_text())["config"]["quick"] is True
    for folder in (tmp_path, tmp_path / "quick" / "runs", run):
        with pytest.raises(KdrunError, match="only trials"):
            runs_in(folder)


def test_each_of_several_teachers_is_shortened() -> None:
    run = composed("quick=true 'teacher=[cnn_digits,mlp]'").run
    assert {name: (own.epochs, own.stop_at) for name, own in run.recipe.teachers.items()} == {
        "cnn_digits": (1, None), "mlp": (1, None),
    }  # fmt: skip
    assert all(own.batch <= 32 for own in run.recipe.teachers.values())
