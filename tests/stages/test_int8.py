"""Runs with `quantise=int8`: four more trainings, six files, one verdict."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import kdrun.stages.int8
import kdrun.stages.ready
from kdrun.cli import main
from kdrun.models import formats
from kdrun.models.exported import Exported, Opened
from kdrun.models.quantised import NAME
from kdrun.models.weights import read_weights
from kdrun.records import read_rows
from tests.stages.runs import SHORT, folders, report

ARGS = (*SHORT, "threads=1", "evaluation.figures=[accuracy]", "int8.epochs=2")
NAMES = [f"int8_{role}_{by}" for role in ("student", "control") for by in ("labels", "teacher")]


class Files:
    """In place of ONNX and onnxruntime: each file is the fake quantisation itself."""

    def __init__(self) -> None:
        self.models: dict[str, nn.Module] = {}

    def write(self, model: nn.Module, about: Any, path: Path) -> None:
        name = f"file {len(self.models)}"
        self.models[name] = model
        path.write_text(name)

    def opened(self, path: Path, threads: int) -> Opened:
        model = self.models[path.read_text()]
        return Opened(Exported(lambda images: model.eval()(images)), {})  # type: ignore[typeddict-item]


@pytest.fixture(scope="module")
def files() -> Iterator[Files]:
    made = Files()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kdrun.stages.int8, "write_trained", made.write)
        patch.setattr(kdrun.stages.int8, "opened", made.opened)
        patch.setattr(kdrun.stages.int8, "layers_in_integers", lambda path: 2)
        patch.setattr(kdrun.stages.ready, "format_named", lambda name, key: None)
        yield made


@pytest.fixture(scope="module")
def outputs(files: Files, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a run, which is started a second time without 8 bits."""
    root = tmp_path_factory.mktemp("int8") / "outputs"
    assert main([*ARGS, "quantise=int8", f"outputs_dir={root}"]) == 0
    return root


def test_eight_models_are_measured_on_the_whole_test_part(outputs: Path) -> None:
    found = report(outputs)
    content = found["int8"]
    for role in ("student", "control"):
        own, plain = content["models"][role], found["models"][role]["last"]
        assert list(own) == ["fp32", "ptq", "labels", "teacher"]
        assert own["fp32"]["top1"] == pytest.approx(plain["test"]["top1"])
        assert own["fp32"]["validation"] == pytest.approx(plain["validation"]["top1"])
        for form in list(own.values())[1:]:
            assert form["change"] == pytest.approx(form["top1"] - own["fp32"]["top1"])
            assert form["change_interval"][0] <= form["change"] <= form["change_interval"][1]
            assert (form["layers"], form["differ"], form["other_class"]) == (3, 0.0, 0)
    for name, gain in content["gains"].items():
        pair = [content["models"][role][name]["top1"] for role in ("student", "control")]
        assert gain["gain_top1"] == pytest.approx(pair[0] - pair[1])
    assert content["gains"]["fp32"]["gain_interval"] == found["comparison"]["gain_interval"]
    assert content["own_loss"] and content["epochs"] == 2 and content["images"] == 512


def test_the_forms_of_the_verdict_are_chosen_on_validation(outputs: Path) -> None:
    content = report(outputs)["int8"]
    scores = {
        role: {name: form["validation"] for name, form in own.items() if name != "fp32"}
        for role, own in content["models"].items()
    }
    del scores["control"]["teacher"]  # such a control would not be one
    for role, own in scores.items():
        assert own[content["chosen"][role]] == max(own.values())
    pair = [content["models"][role][content["chosen"][role]]["top1"] for role in ("student", "control")]
    assert content["gain"]["gain_top1"] == pytest.approx(pair[0] - pair[1])
    change = content["gain"]["gain_top1"] - content["gains"]["fp32"]["gain_top1"]
    assert content["change"] == pytest.approx(change)
    page = next(outputs.glob("runs/*/report.md")).read_text()
    assert "## In 8 bits" in page and "each at its best on validation" in page


def test_they_begin_with_the_trained_weights_and_take_the_same_steps(outputs: Path) -> None:
    where = folders(outputs)
    assert list(where) == ["teacher", "student", "control", *NAMES]
    lines = {name: read_rows(where[name] / "metrics.jsonl") for name in NAMES}
    assert {name: len(rows) for name, rows in lines.items()} == dict.fromkeys(NAMES, 2)
    assert len({row["lr"] for rows in lines.values() for row in rows}) == 2  # the same rates
    assert [list(lines[name][0]["terms"]) for name in NAMES[:2]] == [["hard"], ["hard", "soft"]]
    for name in NAMES:
        began = read_weights(where[name.split("_")[1]] / "last.safetensors")
        trained = read_weights(where[name] / "last.safetensors")
        own = {key: value for key, value in trained.items() if not key.startswith(NAME)}
        assert own.keys() == began.keys() and any(not torch.equal(own[key], began[key]) for key in own)
        far = max((own[key] - began[key]).abs().max().item() for key in own)
        assert far < 0.2, "a short training from there, not one of its own"


def test_a_run_without_it_keeps_the_figures_and_trains_nothing(outputs: Path, files: Files) -> None:
    before, count = report(outputs), len(files.models)
    stamps = {path: path.stat().st_mtime_ns for path in outputs.rglob("*.safetensors")}
    assert main([*ARGS[:-1], f"outputs_dir={outputs}"]) == 0
    assert main([*ARGS, "quantise=int8", f"outputs_dir={outputs}"]) == 0
    assert report(outputs)["int8"] == before["int8"] and len(files.models) == count
    assert {path: path.stat().st_mtime_ns for path in outputs.rglob("*.safetensors")} == stamps


def test_without_the_packages_it_ends_before_it_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(formats, "OLDEST_FOR_ONNX", (2, 6))
    monkeypatch.setattr(
        formats, "FORMATS", {"int8": formats.FORMATS["int8"]._replace(extra=("no_such_package",))}
    )
    monkeypatch.setattr(kdrun.stages.ready, "format_named", formats.format_named)
    assert main([*ARGS, "quantise=int8", f"outputs_dir={tmp_path}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "needs no_such_package" in line and "[onnx]" in line
    assert not list(tmp_path.rglob("*.jsonl"))
