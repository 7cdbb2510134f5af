"""A finished run's student is used: from Python, and by `kdrun predict`."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

import kdrun
from kdrun.config.arguments import parse
from kdrun.config.compose import single
from kdrun.data.batches import plain_batches
from kdrun.errors import KdrunError
from kdrun.models.weights import read_weights, save_weights
from kdrun.plan.plan import make_plan
from tests.commands.short import SHORT, Here


def picture(path: Path, position: int) -> Path:
    """A test digit as a picture file."""
    image = make_plan(single(parse([])).run).ground.data.test.images[position, 0]
    Image.fromarray((image.double() * 255 / 16).round().byte().numpy()).save(path)
    return path


def test_a_student_in_three_lines(here: Here) -> None:
    run = here.run()
    path = picture(here.root / "digit.png", 0)
    student = kdrun.load(run)
    said = student.predict(path)[0]
    assert student.classes == tuple("0123456789") and not student.model.training
    assert student.preprocess(path).shape == (1, 8, 8)
    assert said.probability == max(said.probabilities.values()) and sum(
        said.probabilities.values()
    ) == pytest.approx(1)
    assert student.predict(Image.open(path), str(path)) == [said, said]
    assert kdrun.load(str(run / "student.safetensors")).predict(path) == [said]


@pytest.mark.parametrize("teacher", [False, True])
def test_it_says_what_the_report_counted(here: Here, teacher: bool) -> None:
    run = here.run()
    model = kdrun.load(run, teacher=teacher)
    data = make_plan(single(parse([])).run).ground.data
    said = torch.cat([model.model(batch) for batch in plain_batches(data.test, data, torch.device("cpu"))()])
    top1 = 100 * (said.argmax(1) == data.test.labels).double().mean().item()
    report = json.loads((run / "report.json").read_text())
    assert report["models"]["teacher" if teacher else "student"]["last"]["test"]["top1"] == pytest.approx(
        top1
    )
    path = picture(here.root / "digit.png", 3)
    batch = next(iter(plain_batches(data.test, data, torch.device("cpu"))()))
    assert torch.allclose(model.preprocess(path), batch[3], atol=0.5 / 255 + 1e-6)


def test_predict_says_class_and_probability_and_what_was_changed(here: Here) -> None:
    run = here.run()
    picture(here.root / "a.png", 0)
    Image.open("a.png").convert("RGB").resize((40, 24)).save("b.jpg")
    code, out, err = here("predict", str(run), "a.png", "b.jpg")
    assert code == 0 and [line.split()[0] for line in out.splitlines()] == ["a.png", "b.jpg"]
    assert all(line.endswith(" %") for line in out.splitlines())
    assert err == "note: b.jpg: 40x24 RGB made 8x8 grey, as the training images are\n"
    code, out, err = here("predict", "--teacher", str(run), "a.png")
    assert code == 0 and out.splitlines()[0].split() == ["student", "teacher"]
    rows = json.loads(here("predict", str(run), "a.png", "b.jpg", "--teacher", "--format", "json")[1])
    assert set(rows[0]) == {"file", "class", "probability", "teacher"}
    assert set(rows[0]["teacher"]) == {"class", "probability"} and "changed" in rows[1]


def test_a_folder_top_classes_soft_targets_and_one_note(here: Here) -> None:
    run = here.run()
    (here.root / "in" / "more").mkdir(parents=True)
    picture(here.root / "in" / "a.png", 0)
    for place in (1, 2):
        Image.open("in/a.png").resize((16, 16)).save(f"in/more/{place}.png")
    (here.root / "in" / "notes.txt").write_text("no picture")
    code, out, err = here("predict", str(run), "in", "--top", "3", "--format", "csv")
    rows = list(csv.DictReader(out.splitlines()))
    assert code == 0 and [row["file"] for row in rows] == ["in/a.png", "in/more/1.png", "in/more/2.png"]
    assert list(rows[0]) == [
        *("file", "model", "temperature", "class", "probability"),
        *("class_2", "probability_2", "class_3", "probability_3"),
    ]
    assert err.splitlines() == [
        "note: 1 file left out, not pictures: in/notes.txt",
        "note: 2 of 3 pictures changed, as the training images are: in/more/1.png (16x16 grey made 8x8 grey) "
        "and 1 more",
    ]
    asked = ("--teacher", "--temperature", "1,4", "--top", "10")
    (row,) = json.loads(here("predict", str(run), "in/a.png", *asked, "--format", "json")[1])
    for role, answer in (("student", row), ("teacher", row["teacher"])):
        model = kdrun.load(run, teacher=role == "teacher")
        (logits,) = model.logits([model.preprocess("in/a.png")])
        for t, answers in answer["soft_targets"].items():
            shares = (logits.double() / float(t)).softmax(0)
            assert {each["class"]: each["probability"] for each in answers} == pytest.approx(
                dict(zip(model.classes, shares.tolist(), strict=True))
            )
    text = here("predict", str(run), "in/a.png", *asked)[1]
    assert max(map(len, text.splitlines())) <= 80 and text.count("T = 4") == 2
    code, out, err = here("predict", str(run), str(run), "in/a.png")
    assert (code, out) == (2, "") and "is the folder of a run" in err


def test_a_teacher_from_a_file_and_one_that_is_gone(here: Here) -> None:
    here.run()
    kept = next(here.root.glob("outputs/models/teacher-*"))
    save_weights(here.root / "own.safetensors", read_weights(kept / "last.safetensors"), {})
    run = here.run("teacher.checkpoint=own.safetensors")
    picture(here.root / "a.png", 0)
    assert here("predict", str(run), "a.png", "--teacher")[0] == 0
    other = next(path for path in here.runs() if path != run)
    for file, name in ((other / "report.json", "folders"), (other / "plan.json", "trainings")):
        content = json.loads(file.read_text())
        del content[name]  # the plan says where the teacher is; an earlier version wrote none
        file.write_text(json.dumps(content)) if name == "folders" else file.unlink()
        if name == "folders":
            assert here("predict", str(other), "a.png", "--teacher")[0] == 0
    code, _, err = here("predict", str(other), "a.png", "--teacher")
    assert code == 2 and "its teacher is not kept (any more)" in err
    for file in kept.glob("*.safetensors"):
        file.unlink()
    other = next(path for path in here.runs() if path != run)
    code, out, err = here("predict", str(other), "a.png", "--teacher")
    assert (code, out) == (2, "") and err == f"{other}: its teacher is not kept (any more)\n"


def test_mistakes_are_one_line(here: Here) -> None:
    run = here.run()
    (here.root / "text.png").write_text("no picture")
    os.mkfifo(here.root / "pipe")
    (here.root / "empty").mkdir()
    save_weights(here.root / "other.safetensors", {"a": torch.zeros(1)}, {})
    for arguments, line in {
        ("nowhere", "a.png"): "nowhere: no such run",
        ("empty", "a.png"): "empty: no finished student in it (student.safetensors)",
        ("text.png", "a.png"): "text.png: cannot be read: damaged, or no safetensors file",
        ("other.safetensors", "a.png"): "other.safetensors: was not written by kdrun",
        (str(run), "nothing.png"): "nothing.png: no such file",
        (str(run), "pipe"): "pipe: cannot be read as a picture: a pipe or a device",
        (str(run), "text.png"): "text.png: cannot be read as a picture",
        (str(run), "empty"): "empty: no pictures in it",
    }.items():
        code, out, err = here("predict", *arguments)
        assert (code, out) == (2, "") and err.startswith(line) and err.count("\n") == 1


def test_pictures_of_every_kind_become_what_the_model_sees(here: Here) -> None:
    preprocess = kdrun.load(here.run()).preprocess
    square = np.arange(64, dtype=np.uint8).reshape(8, 8) * 3
    plain = preprocess(Image.fromarray(square))
    assert torch.allclose(plain[0], torch.from_numpy(square).float() / 255)
    deep = Image.fromarray(square.astype(np.uint16) * 256)
    assert torch.equal(preprocess(deep), plain)
    coloured = Image.fromarray(np.stack([square] * 3, 2))
    for mode in ("RGB", "RGBA", "P", "1"):
        tensor, changed = preprocess.looked_at(coloured.convert(mode))
        assert tensor.shape == (1, 8, 8) and changed.endswith("made 8x8 grey")
    wide, changed = preprocess.looked_at(Image.fromarray(np.tile(square, (1, 3))))
    assert torch.equal(wide, plain) and changed == "24x8 grey made 8x8 grey"


def test_checkpoints_are_evaluated_and_start_a_student(here: Here) -> None:
    run = here.run("control=false")
    file = run / "student.safetensors"
    code, out, _ = here(*SHORT, "stages=[evaluate]", f"student.checkpoint={file}", "control=false", "seed=9")
    assert code == 0 and "top-1 test" in out
    code, out, _ = here("check", *SHORT, f"student.checkpoint={file}", "seed=9")
    values = {
        line.split()[0]: float(line.split()[2])
        for line in out.splitlines()
        if line.startswith(("hard ", "soft "))
    }
    assert code == 0 and values["hard"] < 2.0  # a student that was trained already, not one of ln 10


def test_a_foreign_package_is_named_and_not_imported(here: Here) -> None:
    file = here.run() / "student.safetensors"
    from safetensors import safe_open
    from safetensors.torch import save_file

    with safe_open(file, framework="pt") as opened:
        text = {key: value for key, value in opened.metadata().items() if key != "kdrun_sha256"}
    model = json.loads(text["model"]) | {"family": "foreign.nets"}
    save_file(
        read_weights(file), here.root / "moved.safetensors", metadata=text | {"model": json.dumps(model)}
    )
    with pytest.raises(KdrunError, match=r"kdrun.load\(run, packages=\['foreign'\]\)"):
        kdrun.load(here.root / "moved.safetensors")
    with pytest.raises(KdrunError, match="is not in this folder or in this Python"):
        kdrun.load(here.root / "moved.safetensors", packages=["foreign"])


def test_a_renamed_class_folder_keeps_nothing_of_its_old_name(here: Here) -> None:
    for number in range(24):
        path = here.root / "pictures" / ("cat", "dog")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.RandomState(number).randint(0, 256, (12, 12, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(path)
    overrides = (
        "dataset=imagefolder",
        "teacher=cnn_digits",
        "student=cnn_digits_small",
        "dataset.path=pictures",
        "dataset.size=8",
        "control=false",
    )
    run = here.run(*overrides)
    trained = (run / "last.safetensors").stat().st_mtime_ns
    (here.root / "pictures" / "dog").rename(here.root / "pictures" / "wolf")  # still the second of two
    assert here.run(*overrides) == run and (run / "last.safetensors").stat().st_mtime_ns == trained
    assert kdrun.load(run).classes == ("cat", "wolf")
    for file in run.iterdir():
        assert b"dog" not in file.read_bytes(), file


def test_what_would_steer_a_terminal_is_text(here: Here) -> None:
    run, path = here.run(), picture(here.root / "a\x1b[31m.png", 0)
    file = run / "student.safetensors"
    with safe_open(file, framework="pt") as opened:
        about = {name: json.loads(text) for name, text in opened.metadata().items() if name != "format"}
    about["classes"] = [f"\x1b]0;x\x07\u202e\x9b{name}" for name in about["classes"]]
    save_weights(file, read_weights(file), about)
    for format in ("text", "csv", "json"):
        code, out, err = here("predict", str(file), str(path), "--format", format)
        assert code == 0 and not err and "u202e" in out
        assert not any(letter in out for letter in "\x1b\x07\u202e\x9b")


@pytest.mark.parametrize("size", [-5, 10**8])
def test_a_file_that_asks_for_an_impossible_size_is_refused(here: Here, size: int) -> None:
    file = here.run() / "student.safetensors"
    with safe_open(file, framework="pt") as opened:
        about = {name: json.loads(text) for name, text in opened.metadata().items() if name != "format"}
    save_weights(file, read_weights(file), about | {"resize_to": size})
    code, _, err = here("predict", str(file), str(picture(here.root / "digit.png", 0)))
    assert code == 2 and err.endswith(f"is not what kdrun writes: resize_to is {size}\n")
