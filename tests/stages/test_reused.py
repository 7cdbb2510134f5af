"""`method=simkd`: the student keeps the teacher's classifier in its file, and the control its own."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import kdrun
from kdrun.cli import main
from kdrun.models.reused import Reused
from kdrun.models.weights import read_weights

RUN = (
    "method=simkd",
    "teacher=resnet8",
    "student=resnet8",
    "dataset=digits",
    "recipe.teacher.epochs=1",
    "recipe.student.epochs=2",
    "evaluation.latency=false",
    "evaluation.plots=false",
)


def test_the_student_carries_the_teachers_classifier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*RUN]) == 0
    (file,) = Path("outputs").glob("runs/*/student.safetensors")
    (teacher,) = Path("outputs").glob("models/teacher-*/val_best.safetensors")
    (control,) = Path("outputs").glob("models/control-*/last.safetensors")
    student, taught = read_weights(file), read_weights(teacher)
    assert torch.equal(student["classifier.weight"], taught["fc.weight"])
    assert torch.equal(student["classifier.bias"], taught["fc.bias"])
    assert set(read_weights(control)) == set(taught)
    loaded = kdrun.load(file)
    assert isinstance(loaded.model, Reused)
    kept = loaded.model.state_dict()
    assert all(torch.equal(kept[name], tensor) for name, tensor in student.items())


def test_a_teacher_that_cannot_lend_it_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["method=simkd"]) == 2
    message = "loss: the teacher's classifier must be one linear layer on the mean of its last map"
    assert capsys.readouterr().err.startswith(message)
