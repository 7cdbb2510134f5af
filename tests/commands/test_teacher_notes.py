"""A teacher that does not fit the data is said, or refused, before a student learns from it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from kdrun.models.class_names import stated_classes
from kdrun.models.weights import save_weights
from kdrun.plan.plan import make_plan
from tests.commands.short import SHORT, Here
from tests.config.composed import composed

ALONE = (*SHORT, "dataset=digits", "control=false")
DIGITS = tuple("0123456789")


TRAINED: dict[str, Tensor] = {}


def teacher(here: Here) -> dict[str, Tensor]:
    """The weights of a teacher that is trained once."""
    if not TRAINED:
        assert here(*ALONE, "stages=[teacher]", "recipe.teacher.epochs=8", "outputs_dir=first")[0] == 0
        TRAINED.update(load_file(next(here.root.glob("first/models/teacher-*/last.safetensors"))))
    return {name: value.clone() for name, value in TRAINED.items()}


def test_a_student_that_kdrun_wrote_is_a_teacher_for_its_own_classes_only(here: Here) -> None:
    file = here.run() / "student.safetensors"
    tensors = load_file(file)
    assert stated_classes(file) == DIGITS
    here.capsys.readouterr()
    command = ("check", *ALONE, "teacher=cnn_digits_small", "teacher.checkpoint=t.safetensors")
    for classes, code in ((DIGITS, 0), (DIGITS[::-1], 2)):
        save_weights(Path("t.safetensors"), tensors, {"classes": list(classes)})
        assert here(*command)[0] == code


@pytest.mark.parametrize("role", ["teacher", "student"])
def test_classes_of_other_outputs_are_refused(here: Here, role: str) -> None:
    weights = teacher(here)
    file = Path("t.pth")
    torch.save({"state_dict": weights, "class_names": ["1", "0", *DIGITS[2:]]}, file)
    stages = [] if role == "teacher" else ["stages=[evaluate]", "student=cnn_digits"]
    for command in ([], ["check"]):
        code, out, err = here(*command, *ALONE, *stages, f"{role}.checkpoint=t.pth")
        assert (code, out) == (2, "")
        assert err == (
            f"{role}.checkpoint=t.pth: of another data set: its classes are in another order: "
            "class 0 is 1 there and 0 here, class 1 is 0 there and 1 here"
            + (". To read them by name: teacher.class_map={}\n" if role == "teacher" else "\n")
        )


def pictures(root: Path, classes: Sequence[str]) -> None:
    for number, name in enumerate(classes):
        folder = root / name
        folder.mkdir(parents=True)
        for shade in range(12):
            Image.new("L", (8, 8), 60 * number + shade).save(folder / f"{shade}.png")


def test_other_classes_are_refused_until_they_are_declared(here: Here) -> None:
    pictures(here.root / "mine", ("ant", "cat", "dog"))
    words = [*SHORT, "dataset=imagefolder", "dataset.path=mine", "dataset.size=8", "dataset.channels=1"]
    words += ["dataset.mean=0.5", "dataset.std=0.25"]
    words += ["dataset.test=6", "dataset.validation=6", "control=false", "student=cnn_digits_small"]
    weights = make_plan(composed(" ".join([*words, "teacher=cnn_digits_small"])).run).teacher.built.model
    torch.save({"state_dict": weights.state_dict(), "classes": ["car", "bus", "cat"]}, "moved.pth")
    torch.save({"state_dict": weights.state_dict(), "classes": ["car", "bus", "dog"]}, "t.pth")
    said = (
        "t.pth: of another data set: its classes are other ones (it has car, bus, the data set ant, cat): "
        "class 0 is car there and ant here, class 1 is bus there and cat here. If these mean the same: "
    )
    alone = [*words, "teacher=cnn_digits_small", "teacher.checkpoint=t.pth"]
    several = "+teachers={x: {name: cnn_digits_small, checkpoint: t.pth}, y: cnn_digits}"
    for command in (alone, ["check", *alone]):
        assert here(*command)[::2] == (
            2,
            f"teacher.checkpoint={said}'teacher.class_map={{car: ant, bus: cat}}'\n",
        )
    error = here("check", *words, several)[2]
    assert error == f"teachers.x.checkpoint={said}'teachers.x.class_map={{car: ant, bus: cat}}'\n"
    for declared in ("teacher.class_map={car: ant, bus: cat}", "teacher.classes=[ant,cat,dog]"):
        code, out, error = here("check", *alone, declared)
        assert (code, error) == (0, "") and "other ones" not in out
    moved = [
        *words,
        "teacher=cnn_digits_small",
        "teacher.checkpoint=moved.pth",
        "teacher.classes=[ant,cat,dog]",
    ]
    code, _, error = here("check", *moved)
    assert code == 2 and error.endswith("To read them by name: teacher.classes=null teacher.class_map={}\n")


def test_check_says_that_decoded_pictures_stay(here: Here) -> None:
    pictures(here.root / "mine", ("ant", "cat", "dog"))
    words = [*SHORT, "dataset=imagefolder", "dataset.path=mine", "dataset.size=8", "student=cnn_digits_small"]
    words += ["teacher=cnn_digits_small", "dataset.test=6", "dataset.validation=6", "control=false"]
    for stays in (True, False):
        code, out, _ = here("check", *words)
        said = "but the decoded pictures, which the run reads: data/decoded" in " ".join(out.split())
        assert (code, said) == (0, stays) and list(here.root.glob("data/decoded/*/images"))


def test_renamed_classes_are_said_by_check_run_sweep_and_report(here: Here) -> None:
    torch.save({"state_dict": teacher(here), "class_names": ["zero", *DIGITS[1:]]}, "t.pth")
    note = "its classes are other ones (it has zero, the data set 0): class 0 is zero there and 0 here"
    for command in (["check"], [], ["-m", "seed=1,2"]):
        code, out, _ = here(*command, *ALONE, "teacher.checkpoint=t.pth")
        assert code == 0 and note in " ".join(out.split())
    report = next(here.root.glob("outputs/runs/*/report.json"))
    assert any(note in text for text in json.loads(report.read_text())["notes"])


def exchanged(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    head = [name for name, tensor in weights.items() if tensor.shape[:1] == (10,)]
    return weights | {name: weights[name].roll(3, 0) for name in head}


def forgotten(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: torch.zeros_like(tensor) for name, tensor in weights.items()}


NOTES = {exchanged: "teacher's classes seem to be in another order", forgotten: "teacher only guesses (1"}


@pytest.mark.parametrize("change", NOTES, ids=["exchanged", "forgotten"])
def test_a_run_says_what_check_says_of_answers(
    here: Here, change: Callable[[dict[str, Tensor]], dict[str, Tensor]]
) -> None:
    torch.save(change(teacher(here)), "t.pth")
    note = NOTES[change]
    before = set(here.runs())
    for command in (["check"], [], ["-m", "seed=1,2"]):
        code, out, _ = here(*command, *ALONE, "teacher.checkpoint=t.pth")
        assert code == 0 and " ".join(out.split()).count(note) >= 1
        if not command:
            assert out.index(f"note   the {note}") < out.index(" student  1/2 ")
    runs = set(here.runs()) - before
    assert len(runs) == 3
    for run in runs:
        notes = json.loads((run / "report.json").read_text())["notes"]
        assert any(note in text for text in notes) and note in (run / "report.md").read_text()


def test_a_teacher_that_was_hardly_trained_is_said_before_the_student_is(here: Here) -> None:
    code, out, _ = here(*ALONE, "recipe.teacher.lr=1e-9", "recipe.teacher.epochs=1")
    assert code == 0 and out.index("note   the teacher only guesses") < out.index(" student  1/2 ")


def test_a_student_from_a_file_in_another_order_is_said(here: Here) -> None:
    torch.save(exchanged(teacher(here)), "t.pth")
    assert here(*ALONE, "stages=[evaluate]", "student=cnn_digits", "student.checkpoint=t.pth")[0] == 0
    report = next(here.root.glob("outputs/runs/*/report.json"))
    assert "the student's classes seem to be in another order" in json.loads(report.read_text())["notes"][0]


def test_nothing_is_said_of_a_teacher_that_fits(here: Here) -> None:
    torch.save(teacher(here), "t.pth")
    out = here(*ALONE, "teacher.checkpoint=t.pth")[1]
    assert "note" not in out
