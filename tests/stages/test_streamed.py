"""A run whose images are read as they are needed is the run whose images lie in memory."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from kdrun.cli import main
from kdrun.config.arguments import parse
from kdrun.config.compose import single
from kdrun.config.schema import Runtime
from kdrun.data import select
from kdrun.data.lazy import Reading
from kdrun.errors import KdrunError
from kdrun.models.weights import read_weights
from kdrun.plan import ground
from tests.docs.pages import blocks, commands, words
from tests.stages.pictures import write_pictures

CPU = torch.device("cpu")
LINE = "images 8.40 kB do not fit into memory: read as they are needed, by 1 process"

RUN = (
    *("dataset=imagefolder", "dataset.path=pictures", "dataset.size=8", "dataset.resize_to=10"),
    *("teacher=cnn_digits", "student=cnn_digits_small", "device=cpu", "threads=1", "control=false"),
    *("recipe=quick", "recipe.teacher.epochs=1", "recipe.student.epochs=2", "recipe.student.batch=10"),
    *("evaluation.latency=false", "evaluation.plots=false", "runtime.workers=1"),
)


@pytest.fixture(autouse=True)
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_pictures(".jpg")


def test_a_run_is_the_same_and_says_that_it_reads(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*RUN, "outputs_dir=memory"]) == 0
    before = capsys.readouterr().out
    monkeypatch.setattr(select, "free_memory", lambda: 10_000)
    assert main([*RUN, "outputs_dir=read"]) == 0
    out = capsys.readouterr().out
    assert LINE in out and LINE not in before
    for name in ("models/*/last", "models/*/val_best", "runs/*/last", "runs/*/student"):
        (one,), (two,) = (list(Path(root).glob(f"{name}.safetensors")) for root in ("memory", "read"))
        assert one.relative_to("memory") == two.relative_to("read")
        tensors = read_weights(two)
        assert all(torch.equal(tensor, tensors[key]) for key, tensor in read_weights(one).items())
    kept = [next(Path(root).glob("runs/*/report.json")) for root in ("memory", "read")]
    reports = [json.loads(path.read_text()) for path in kept]
    scores = [report["models"]["student"]["last"] for report in reports]
    assert scores[0] == scores[1] and scores[0]["test"]["n"] == 8
    assert main(["check", *RUN, "outputs_dir=other", "stages=[teacher]"]) == 0
    assert LINE in " ".join(capsys.readouterr().out.split())


def test_the_page_on_large_images_is_understood() -> None:
    typed = [words(command) for block in blocks("large_images.md") for command, _ in commands(block)]
    assert len(typed) == 3
    for arguments in typed:
        run = single(parse([word for word in arguments if word != "check"])).run
        assert run.dataset["path"] == "data/imagenet" and run.recipe.student.name == "imagenet"
        assert (run.teacher.name, run.recipe.teacher.epochs) == ("resnet34", 100)


def test_how_images_are_read_follows_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ground.reading(Runtime(workers=3, cache_gb=0.5), CPU) == Reading(3, 500_000_000, None)
    monkeypatch.setattr(ground, "cores", lambda: 16)
    assert ground.reading(Runtime(), CPU).workers == 4
    assert ground.auto_workers(torch.device("cuda")) == 15
    monkeypatch.setattr(ground, "POSSIBLE", False)
    assert ground.reading(Runtime(), CPU).workers == 0
    with pytest.raises(KdrunError, match=r"runtime\.workers=3: this system can read images in this process"):
        ground.reading(Runtime(workers=3), CPU)
