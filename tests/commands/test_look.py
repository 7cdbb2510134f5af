"""`kdrun look`, and what a run keeps of its errors and its teacher's soft targets."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch

import kdrun
from kdrun.config.arguments import parse
from kdrun.config.compose import single
from kdrun.data.batches import plain_batches
from kdrun.plan.plan import make_plan
from kdrun.report import answers, thumbnails
from tests.commands.short import Here
from tests.commands.test_predict import picture
from tests.report.pictures import pixels


def test_soft_targets_are_those_of_the_teacher(here: Here) -> None:
    run = here.run()
    data = make_plan(single(parse([])).run).ground.data
    (batch,) = plain_batches(data.test, data, torch.device("cpu"))()
    logits = kdrun.load(run, teacher=True).model(batch)
    code, out, _ = here("look", str(run), "--class", "2", "--count", "1", "--format", "json")
    (row,) = json.loads(out)
    own = (data.test.labels == 2).nonzero()[:, 0]
    shares = (logits[own].double() / 2).softmax(1)  # the temperature of the digits
    best = int(own[(shares * shares.log()).sum(1).argmin()])
    assert code == 0 and row["image"] == f"image {best}" and row["truth"] == "2"
    assert set(row["soft_targets"]) == {"1", "2"} and len(row["soft_targets"]["2"]) == 5
    for name, share in row["soft_targets"]["2"].items():
        assert share == pytest.approx(float((logits[best] / 2).softmax(0)[int(name)]), abs=1e-5)


def test_text_fits_and_the_picture_is_drawn(here: Here) -> None:
    run = here.run()
    code, out, err = here("look", str(run), "--temperature", "1,4,20", "--out", "sub/look.png", "--top", "10")
    assert (code, err) == (0, "") and max(map(len, out.splitlines())) <= 80
    assert out.count("T = 20") == 10 and out.count("truth") == 10
    assert pixels(here.root / "sub" / "look.png").std() > 10
    out = here("look", str(run), "--image", "5,6", "--temperature", "1")[1]
    assert [line.split()[1] for line in out.splitlines() if line.startswith("image")] == ["5", "6"]
    path = picture(here.root / "digit.png", 5)
    shown = here("look", str(run), str(path), "--temperature", "1")[1].splitlines()
    assert shown[-1] == next(line for line in out.splitlines() if "T = 1" in line), "the same image as a file"


def test_mistakes_are_one_line(here: Here) -> None:
    run = str(here.run())
    (here.root / "file").touch()
    (here.root / "folder.png").mkdir()
    for arguments, line in {
        (): "kdrun look: which run?",
        (run, "--class", "12"): "--class=12: no such class",
        (run, "--image", "1000"): "--image=1000: the test images are 0 to 999",
        (run, "--image", "x"): "--image=x: must be whole numbers",
        (run, "--temperature", "0"): "--temperature=0: must be numbers above 0",
        (run, "--out", "a.gif"): "--out=a.gif: must be the name of a .png file",
        (run, "--out", "file/a.png"): "--out=file/a.png: file is no folder",
        (run, "--out", "folder.png"): "--out=folder.png: is a folder; name a file",
        (run, "a.png", "--class", "2"): "--class=2: chooses test images",
    }.items():
        code, out, err = here("look", *arguments)
        assert (code, out) == (2, "") and err.startswith(line) and err.count("\n") == 1
    for file in here.root.glob("outputs/models/teacher-*/*.safetensors"):
        file.unlink()
    code, out, err = here("look", run)
    assert (code, out) == (2, "") and err == f"{run}: its teacher is not kept (any more)\n"


def test_a_run_keeps_its_errors(here: Here) -> None:
    run = here.run()
    kept, rows = answers.read(run), list(csv.DictReader((run / "errors.csv").read_text().splitlines()))
    wrong = kept["test/student"] != kept["test/labels"]
    assert {int(row["image"]) for row in rows} == set(np.flatnonzero(wrong)) and list(rows[0]) == [
        *("image", "truth", "student", "p_student", "p_truth", "teacher", "control"),
    ]
    shares = [float(row["p_student"]) for row in rows]
    assert shares == sorted(shares, reverse=True)
    report = json.loads((run / "report.json").read_text())
    for role, right in report["per_class"]["right"].items():
        assert sum(right) / 10 == pytest.approx(report["models"][role]["last"]["test"]["top1"])
    assert "## Where it errs" in (run / "report.md").read_text()


def test_the_pictures_of_a_run_are_drawn_later_without_its_data(here: Here) -> None:
    run = here.run()
    assert not (run / "knowledge.png").exists()
    kept = thumbnails.read(run)
    data = make_plan(single(parse([])).run).ground.data
    assert data.test.labels[kept["knowledge/rows"]].tolist() == list(range(10))
    raw = data.test.images[kept["errors/rows"]].double() * 255 / 16
    assert np.array_equal(kept["errors/images"], raw.round().byte().numpy())
    report = json.loads((run / "report.json").read_text())
    report["config"]["evaluation"]["plots"] = "auto"
    (run / "report.json").write_text(json.dumps(report))
    err = here("report", str(run))[2]
    assert [Path(line).name for line in err.splitlines()] == [
        *("curves.png", "confusion.png", "errors.png", "knowledge.png"),
    ]
    assert all(pixels(run / name).std() > 10 for name in ("errors.png", "knowledge.png"))
    assert "![knowledge](knowledge.png)" in (run / "report.md").read_text()
