"""Batches with a share of labelled images: what is planned, kept apart, and trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from kdrun.cli import main
from kdrun.data import select
from kdrun.models.weights import read_weights
from kdrun.plan.plan import Plan, make_plan
from kdrun.stages import groups
from tests.config.composed import composed
from tests.stages.pictures import write_pictures
from tests.stages.runs import SHORT, play

HALF = "recipe.labelled_share=0.5"


def made(line: str = "") -> Plan:
    return make_plan(composed(line).run)


def test_it_is_in_the_key_of_the_student_that_uses_it_alone() -> None:
    plain, half = made(), made(HALF)
    assert half.student.key == {**plain.student.key, "labelled_share": 0.5}
    assert half.control is not None and plain.control is not None
    assert half.control.fingerprint == plain.control.fingerprint
    assert half.teacher.fingerprint == plain.teacher.fingerprint
    for unused in ("dataset=digits", "transfer=labelled", "alpha=0"):
        assert made(f"{unused} {HALF}").student.fingerprint == made(unused).student.fingerprint
    rows = half.student.row_set()
    assert rows.shares is not None and rows.shares.count(32) == 16
    assert rows.steps == half.control.row_set().steps == plain.student.row_set().steps


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """The students' weights by what their run was. `killed` is killed twice, and continued."""
    root = tmp_path_factory.mktemp("shares")
    common = [*SHORT, "stages=[teacher,student]", "checkpoint.seconds=0"]
    asked = {
        "half": [HALF], "killed": [HALF],
        "nothing but labels": ["recipe.labelled_share=1", "alpha=1e-6"],
        "labelled": ["transfer=labelled", "alpha=1e-6"],
    }  # fmt: skip
    bombs: dict[str, list[Any]] = {"killed": [["step", 60], ["wrote", "state.pt", 1], None]}
    plan = [
        {"args": [*common, *more, f"outputs_dir={root / name}"], "bomb": bomb}
        for name, more in asked.items()
        for bomb in bombs.get(name, [None])
    ]
    statuses = play(plan)
    assert statuses[0] == statuses[3] == 0 and statuses[1:3] == [-9, -9]
    assert statuses[4:] == [0, 0]
    weights = {name: read_weights(next((root / name).glob("runs/*/last.safetensors"))) for name in asked}
    control = next((root / "labelled").glob("models/control-*/last.safetensors"))
    return weights | {"control": read_weights(control)}


def test_killed_and_continued_it_ends_with_the_same_bits(trained: dict[str, dict[str, Any]]) -> None:
    assert all(torch.equal(trained["half"][name], trained["killed"][name]) for name in trained["half"])


def test_batches_of_labelled_images_alone_lead_to_the_control_as_alpha_goes_to_0(
    trained: dict[str, dict[str, Any]],
) -> None:
    """Share 1 has the rows of `transfer=labelled`, so the same bits; what is left of alpha is small."""
    one, other, control = (trained[name] for name in ("nothing but labels", "labelled", "control"))
    for name, value in control.items():
        assert torch.equal(one[name], other[name])
        assert torch.allclose(one[name], value, atol=1e-3), name
        assert not torch.equal(trained["half"][name], value)


FOLDER = [
    "dataset=imagefolder", "dataset.path=pictures", "dataset.size=8", "dataset.resize_to=10",
    "teacher=cnn_digits_small", "student=cnn_digits_small", "recipe=quick", "recipe.student.batch=10",
    "runtime.workers=1",
]  # fmt: skip
FAST = [*SHORT, "stages=[teacher,student]", "threads=1", "control=false"]


def students(folder: Path, *more: str) -> dict[str, tuple[dict[str, Any], dict[str, torch.Tensor]]]:
    """What is noted of the students trained by a command, and their weights, by the name of the folder."""
    assert main([*FAST, *more, f"outputs_dir={folder}"]) == 0
    marks = {mark.parent: json.loads(mark.read_text()) for mark in folder.glob("runs/*/student.json")}
    return {run.name: (mark, read_weights(run / "last.safetensors")) for run, mark in marks.items()}


def test_in_one_batched_model_the_batches_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(groups, "WORTH_STACKING", 0)
    jobs = ["-m", HALF, "seed=0,1", "runtime.jobs=1"]
    together = students(tmp_path / "together", *jobs)
    (tmp_path / "alone").mkdir()
    (tmp_path / "alone" / "models").symlink_to(tmp_path / "together" / "models")
    alone = students(tmp_path / "alone", *jobs, "runtime.together=false")
    assert together.keys() == alone.keys()
    assert [len(mark["companions"]) for mark, _ in together.values()] == [1] * 2
    for run, (_, weights) in together.items():
        for name, value in weights.items():
            assert torch.allclose(value, alone[run][1][name], atol=2e-3), (run, name)


def test_answers_from_a_table_are_those_of_the_live_teacher(tmp_path: Path) -> None:
    views = [HALF, "dataset.views.name=crop_flip", "dataset.views.padding=1"]
    ((mark, tabled),) = students(tmp_path / "tabled", *views).values()
    ((other, live),) = students(tmp_path / "live", *views, "runtime.table=off").values()
    assert (mark["teacher"]["plan"], other["teacher"]["plan"]) == ("tabled", "live")
    assert all(torch.equal(value, live[name]) for name, value in tabled.items())


def test_images_that_are_read_as_they_are_needed_fill_the_same_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_pictures(".png")
    few = [HALF, *FOLDER, "dataset.labelled=2"]
    ((_, held),) = students(tmp_path / "held", *few).values()
    monkeypatch.setattr(select, "free_memory", lambda: 10_000)
    ((_, read),) = students(tmp_path / "read", *few).values()
    assert "read as they are needed" in capsys.readouterr().out
    assert all(torch.equal(value, read[name]) for name, value in held.items())
