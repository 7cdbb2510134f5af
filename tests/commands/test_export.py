"""`kdrun export`: each file is used on the whole test part, by kdrun and without it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torch import nn

import kdrun
from kdrun.data.batches import calibration
from kdrun.errors import KdrunError
from kdrun.evaluation.accuracy import logits_of, top_k
from kdrun.evaluation.counts import share_interval
from kdrun.export import make
from kdrun.export.check import BATCHES, TOLERANCE
from kdrun.export.program import program
from kdrun.export.tables import answers, latencies
from kdrun.models import formats
from kdrun.models.exported import opened
from kdrun.models.formats import FORMATS, Student
from kdrun.models.inputs import Resize, attach
from kdrun.predictor import Preprocess
from kdrun.report.read import read
from kdrun.report.tables import aligned
from kdrun.run_data import batches, data_of
from tests.commands.short import Here
from tests.commands.test_predict import picture

ABOUT = {
    "model": {"name": "tiny", "family": "mlp", "args": {}},
    "stem": "auto",
    "classes": ["a", "b", "c"],
    "image_shape": [1, 4, 4],
    "normalisation": {"mean": [0.0], "std": [1.0]},
}


def has_onnx() -> bool:
    new = tuple(map(int, torch.__version__.split(".")[:2])) >= formats.OLDEST_FOR_ONNX
    try:
        return new and bool(formats.format_named("onnx"))
    except KdrunError:
        return False


HERE = ["pt2", "onnx", "int8"] if has_onnx() else ["pt2"]
"""The formats that can be tested with what is installed."""

needs_onnx = pytest.mark.skipif(not has_onnx(), reason="needs the extra onnx and a torch that exports to it")


@pytest.fixture(scope="session")
def shipped(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The outputs of a short run with its exports; nobody changes them."""
    root = tmp_path_factory.mktemp("shipped") / "outputs"
    shutil.copytree(trained, root)
    run = next((root / "runs").iterdir())
    report = json.loads((run / "report.json").read_text())
    report["config"]["evaluation"] |= {"samples": 5, "seconds": 0.1}
    (run / "report.json").write_text(json.dumps(report))
    make.export(run, HERE)
    return root


@pytest.fixture
def run(here: Here, shipped: Path) -> Path:
    """The exported run, copied."""
    shutil.copytree(shipped, here.root / "outputs", dirs_exist_ok=True)
    return here.runs()[0]


def test_each_file_answers_the_whole_test_part_as_the_student(run: Path) -> None:
    data, student = data_of(read(run), (), None), kdrun.load(run).model
    plain = logits_of(student, batches(data, 1000))
    record = json.loads((run / "export" / "export.json").read_text())
    assert record["eager"]["top1"] == pytest.approx(top_k(plain, data.test.labels))
    assert list(record["files"]) == HERE
    for name, file in record["files"].items():
        logits = logits_of(opened(run / "export" / file["file"]).model, batches(data, 7))
        assert [row["batch"] for row in file["answered"]] == list(BATCHES) == [1, 2, 32]
        for row in file["answered"]:
            assert row["top1"] == pytest.approx(top_k(logits, data.test.labels), abs=0.11)
        if FORMATS[name].exact:
            assert (logits - plain).abs().max() <= TOLERANCE * plain.abs().max()
            assert file["drop"] == 0 and file["verdict"] == "no measurable difference"
        else:
            assert (logits - plain).abs().max() > 0 and file["drop_interval"][0] <= file["drop"]
    lines = [*aligned(answers(record)), *aligned(latencies(record))]
    assert max(map(len, lines)) <= 80
    times = record["latency"]
    assert list(times) == ["eager", *HERE]
    assert len({tuple((row["batch"], row["n"]) for row in rows) for rows in times.values()}) == 1


def test_files_say_classes_and_preprocessing_and_kdrun_predicts_with_them(here: Here, run: Path) -> None:
    picture(here.root / "a.png", 0)
    Image.open("a.png").convert("RGB").resize((40, 24)).save("b.jpg")
    student = kdrun.load(run)
    rows = json.loads(here("predict", str(run), "a.png", "b.jpg", "--format", "json")[1])
    for name in HERE:
        file = run / "export" / FORMATS[name].file
        exported = kdrun.load(file)
        assert (exported.classes, exported.preprocess) == (student.classes, student.preprocess)
        code, out, _ = here("predict", str(file), "a.png", "b.jpg", "--format", "json")
        assert code == 0
        for said, row in zip(json.loads(out), rows, strict=True):
            close = 1e-4 if FORMATS[name].exact else 0.1
            assert said["probability"] == pytest.approx(row["probability"], abs=close)
            assert said["class"] == row["class"] and said.get("changed") == row.get("changed")
        code, out, err = here("predict", str(file), "a.png", "--teacher")
        assert (code, out) == (2, "") and "has only the student" in err


def test_use_py_needs_no_kdrun(here: Here, run: Path) -> None:
    picture(here.root / "a.png", 0)
    Image.open("a.png").convert("RGB").resize((40, 24)).save("b.jpg")
    check = (
        "import sys, runpy; sys.modules['kdrun'] = None; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0])"
    )
    use = str(run / "export" / "use.py")
    for name in HERE if len(HERE) == 1 else ("pt2", "onnx"):
        file = run / "export" / FORMATS[name].file
        rows = json.loads(here("predict", str(file), "a.png", "b.jpg", "--format", "json")[1])
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", check, use, str(file), "a.png", "b.jpg"],
            capture_output=True,
            text=True,
            check=False,
            env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
        )
        assert done.returncode == 0, done.stderr
        for line, row in zip(done.stdout.splitlines(), rows, strict=True):
            path, label, share = line.split()
            assert (path, label) == (row["file"], row["class"])
            assert float(share) == pytest.approx(row["probability"], abs=1e-5)


@pytest.mark.parametrize(
    ("shape", "resize_to"), [((3, 12, 12), 16), ((3, 12, 12), 12), ((1, 9, 14), 9), ((3, 17, 6), 6)]
)
def test_use_py_makes_of_a_picture_what_kdrun_makes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shape: tuple[int, int, int], resize_to: int
) -> None:
    about = {
        "classes": ["a", "b"],
        "image_shape": shape,
        "resize_to": resize_to,
        "normalisation": {"mean": [0.3] * shape[0], "std": [0.7] * shape[0]},
    }
    seen = []

    def session(file: str) -> Any:
        def answer(_: None, images: dict[str, Any]) -> list[Any]:
            seen.append(images["images"])
            return [np.zeros((1, 2), "f")]

        meta = SimpleNamespace(custom_metadata_map={"kdrun.json": json.dumps(about)})
        return SimpleNamespace(run=answer, get_modelmeta=lambda: meta)

    monkeypatch.setitem(sys.modules, "onnxruntime", SimpleNamespace(InferenceSession=session))
    paths = []
    for number, size in enumerate([(31, 20), (20, 31), (12, 12), (5, 9)]):
        paths.append(str(tmp_path / f"{number}.png"))
        pixels = np.random.RandomState(number).randint(0, 256, (size[1], size[0], 3)).astype(np.uint8)
        Image.fromarray(pixels).save(paths[-1])
    monkeypatch.setattr(sys, "argv", ["use.py", "student.onnx", *paths])
    exec(program(["student.onnx"], about), {})
    means = about["normalisation"]
    wanted = Preprocess(shape, resize_to, tuple(means["mean"]), tuple(means["std"]))  # type: ignore[index]
    for path, images in zip(paths, seen, strict=True):
        assert images.dtype == np.float32
        assert torch.allclose(torch.from_numpy(images)[0], wanted(path), atol=1e-6)


def test_the_model_card(run: Path) -> None:
    front, body = (run / "export" / "README.md").read_text().split("---\n", 2)[1:]
    head, report = yaml.safe_load(front), read(run)
    assert "knowledge-distillation" in head["tags"] and "base_model" not in head
    (result,) = head["model-index"][0]["results"]
    assert result["task"]["type"] == "image-classification" and result["dataset"]["name"] == "digits_few"
    values = {metric["name"]: metric["value"] for metric in result["metrics"]}
    assert list(values) == [f"top-1 ({name})" for name in ("eager", *HERE)]
    assert values["top-1 (eager)"] == pytest.approx(report["models"]["student"]["last"]["test"]["top1"] / 100)
    for words in (report["command"], "CC BY 4.0", "95 % interval", "drawn at random", "temperature: 2"):
        assert words in body


def test_base_model_names_the_weights_that_a_model_began_from() -> None:
    from kdrun.export.card import hub_name

    report: Any = {
        "models": {"teacher": {"began_from": "resnet18.a1_in1k"}, "student": {}},
        "config": {"teacher": {"family": "timm"}, "student": {"family": "timm"}},
    }
    assert hub_name(report, "teacher") == "timm/resnet18.a1_in1k" and hub_name(report, "student") == ""


def broken(change: Callable[[Student], Student]) -> Callable[[Student, Path], None]:
    return lambda student, path: formats.write_pt2(change(student), path)


def test_a_wrong_export_fails_and_is_not_kept(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    run = here.run()

    class Wrong(nn.Module):
        def __init__(self, model: nn.Module) -> None:
            super().__init__()
            self.model = model

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = self.model(images)
            return logits + (1.0 if logits.shape[1] else 0.0)

    write = broken(lambda student: Student(Wrong(student.model).eval(), student.about, student.calibration))
    monkeypatch.setattr(make, "FORMATS", FORMATS | {"pt2": FORMATS["pt2"]._replace(write=write)})
    monkeypatch.setattr(make, "format_named", lambda name: make.FORMATS[name])
    code, out, err = here("export", str(run))
    assert (code, out) == (1, "")
    last = err.splitlines()[-1]
    assert last.startswith("student.pt2: at batch 1 logits differ by up to 1 ") and "It is not kept" in last
    assert not list((run / "export").iterdir())


def test_a_file_for_one_batch_size_fails_at_the_others(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    run = here.run()

    def write(student: Student, path: Path) -> None:
        program = torch.export.export(student.model, (torch.zeros(2, *student.about["image_shape"]),))
        torch.export.save(program, path, extra_files={"kdrun.json": json.dumps(student.about)})

    monkeypatch.setattr(make, "format_named", lambda name: FORMATS[name]._replace(write=write))
    code, _, err = here("export", str(run))
    assert code == 1 and err.splitlines()[-1].startswith("student.pt2: cannot be used: ")
    assert not list((run / "export").iterdir())


def test_a_model_that_cannot_be_traced_is_named_with_the_reason() -> None:
    class Branches(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images.flatten(1) if images.sum() > 0 else images.flatten(1) * 2

    with pytest.raises(KdrunError, match=r"^tiny: torch.export of torch .* cannot export this model: \w+"):
        Student(Branches(), ABOUT, lambda: torch.zeros(0)).program  # noqa: B018


def test_hooks_that_resize_and_normalise_are_in_the_file(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(2 * 6 * 6, 3))
    model.register_forward_pre_hook(Resize(8, reduces=False))
    attach(model, torch.tensor([2.0]), torch.tensor([-1.0]))
    student = Student(model.eval().requires_grad_(False), ABOUT, lambda: torch.rand(8, 1, 4, 4))
    images = torch.rand(5, 1, 4, 4)
    for name in HERE[:2]:
        path = tmp_path / FORMATS[name].file
        FORMATS[name].write(student, path)
        assert torch.allclose(opened(path).model(images), model(images), atol=1e-5)
        assert str(Path(formats.__file__).parent).encode() not in path.read_bytes()


@needs_onnx
def test_int8_weights_leave_room_for_sums_in_sixteen_bits(run: Path) -> None:
    import onnx

    graph = onnx.load(run / "export" / "student.int8.onnx").graph
    weights = [onnx.numpy_helper.to_array(each) for each in graph.initializer]
    eight = [each for each in weights if each.dtype == np.int8 and each.ndim > 1]
    assert len(eight) >= 3 and all(abs(each.astype(int)).max() <= 64 for each in eight)


def test_images_for_the_ranges_are_training_images(run: Path) -> None:
    data = data_of(read(run), (), None)
    images = calibration(data)
    train = {image.numpy().tobytes() for image in data.train.images}
    pixels = (images * data.white).round().to(torch.uint8)
    assert len(images) == 512 and all(image.numpy().tobytes() in train for image in pixels)
    assert torch.equal(images, calibration(data))


def test_test_images_come_in_batches_of_any_size(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    data = data_of(read(here.run()), (), None)
    whole = torch.cat(list(batches(data, 1000)))
    monkeypatch.setattr("kdrun.data.batches.PIXELS_PER_BATCH", {"cpu": 64 * 6})
    for size in (1, 7, 32):
        parts = list(batches(data, size))
        assert {len(part) for part in parts[:-1]} == {size} and torch.equal(torch.cat(parts), whole)


def test_wilson_interval() -> None:
    assert share_interval(0, 10) == pytest.approx((0.0, 27.753), abs=1e-3)  # Newcombe 1998
    assert share_interval(81, 263) == pytest.approx((25.53, 36.62), abs=1e-2)  # his table I
    assert share_interval(10, 10)[1] == pytest.approx(100)


def test_mistakes_are_one_line(here: Here, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here.root / "damaged.pt2").write_bytes(b"no zip")
    (here.root / "mine").mkdir()
    (here.root / "mine" / "README.md").write_text("mine")
    (here.root / "file").write_text("")
    for arguments, line in {
        ("export",): "kdrun export: which run?",
        ("export", "a", "b"): "kdrun export: one run at a time",
        ("export", "nowhere/at/all"): "nowhere/at/all: no such run",
        ("export", "mine"): "mine: no finished student in it",
        ("export", str(run), "--to", "zip"): "--to=zip: no such format. Choices: pt2, onnx, int8",
        ("export", str(run / "student.safetensors")): f"{run}/student.safetensors: an export is tested",
        ("export", str(run), "--out", "mine"): "--out=mine: holds README.md, which is not of this student",
        ("export", str(run), "--out", "file"): "--out=file: is a file",
        ("predict", "damaged.pt2", "a.png"): "damaged.pt2: cannot be read by torch",
    }.items():
        code, out, err = here(*arguments)
        assert (code, out) == (2, "") and err.startswith(line) and err.count("\n") == 1, err
    assert (here.root / "mine" / "README.md").read_text() == "mine"
    report = json.loads((run / "report.json").read_text())
    report["models"]["student"]["last"]["test"]["top1"] -= 30
    (run / "report.json").write_text(json.dumps(report))
    code, _, err = here("export", str(run))
    assert code == 2 and "not the images that the run was tested on" in err


@needs_onnx
def test_mistakes_with_onnx_are_one_line(here: Here, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnx

    (here.root / "damaged.onnx").write_bytes(b"no model")
    model = onnx.load(run / "export" / "student.onnx")
    del model.metadata_props[:]
    onnx.save(model, "foreign.onnx")
    for file, line in {"damaged": "cannot be read: damaged", "foreign": "was not exported by kdrun"}.items():
        code, out, err = here("predict", f"{file}.onnx", "a.png")
        assert (code, out) == (2, "") and err.startswith(f"{file}.onnx: {line}") and err.count("\n") == 1


def test_what_is_missing_is_said_before_anything_is_written(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = here.run()
    monkeypatch.setattr(formats, "OLDEST_FOR_ONNX", (2, 6))
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    monkeypatch.setitem(sys.modules, "onnx", None)
    code, out, err = here("export", str(run), "--to", "pt2,onnx")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("onnx: needs onnx, which cannot be imported") and "[onnx]'" in err
    assert not (run / "export").exists()


def test_an_older_torch_is_refused_with_the_version_that_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "needs", lambda *packages: None)
    monkeypatch.setattr(torch, "__version__", "2.6.0")
    with pytest.raises(KdrunError, match=r"needs torch \d\.\d or later; this is 2\.6\.0"):
        formats.format_named("onnx")


def test_a_run_trained_anew_has_no_old_files(here: Here, run: Path) -> None:
    record = run / "export" / "export.json"
    content = json.loads(record.read_text())
    record.write_text(json.dumps(content | {"student": "another"}))
    (run / "export" / "student.onnx").touch()
    assert here("export", str(run), "--to", "pt2", "--format", "json")[0] == 0
    assert list(json.loads(record.read_text())["files"]) == ["pt2"]
    assert not (run / "export" / "student.onnx").exists()
    text = (run / "export" / "use.py").read_text()
    assert "onnxruntime" not in text and len(text.splitlines()) < 35
