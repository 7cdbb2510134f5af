"""A student that is to replace a trained model: named, compared, never part of a training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from kdrun.cli import main
from kdrun.errors import KdrunError
from kdrun.evaluation.compare import Pairs, bounds
from kdrun.models.weights import save_weights
from kdrun.plan.plan import Plan, make_plan
from kdrun.report import answers
from kdrun.stages.pipeline import there
from kdrun.stages.subject import subject_of
from tests.config.composed import composed
from tests.stages.runs import SHORT

SMALL = ("teacher=cnn_digits_small", "student=cnn_digits_small", *SHORT)
CLASSES = list("0123456789")


def planned(folder: Path, *words: str) -> Plan:
    return make_plan(composed(" ".join(f'"{w}"' for w in (*SMALL, *words, f"outputs_dir={folder}"))).run)


def report(folder: Path) -> Any:
    return json.loads((planned(folder).student.folder / "report.json").read_text())


def refusal(folder: Path, *words: str) -> str:
    with pytest.raises(KdrunError) as caught:
        planned(folder, *words)
    return str(caught.value)


def old(folder: Path) -> Path:
    """The folder of the run that another replaces a model of."""
    return planned(folder, "seed=1").student.folder


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the name old, and a run that is to replace its teacher."""
    folder = tmp_path_factory.mktemp("reference")
    for words in (("name=old", "seed=1", "control=false"), (f"reference={old(folder)}/teacher",)):
        assert main([*SMALL, *words, f"outputs_dir={folder}"]) == 0
    return folder


def test_the_reference_stands_beside_the_others_with_its_own_answers(outputs: Path) -> None:
    found, first = report(outputs), json.loads((old(outputs) / "report.json").read_text())
    assert list(found["models"])[-1] == "reference"
    own, there = found["models"]["reference"], first["models"]["teacher"]
    assert (own["source"], own["began_from"]) == ("run", f"{old(outputs)}/teacher")
    assert own["last"]["test"]["top1"] == there["last"]["test"]["top1"] and own["params"] == there["params"]
    against, kept = found["comparison"]["reference"], answers.read(planned(outputs).student.folder)
    right = {name: kept[f"test/{name}"] == kept["test/labels"] for name in ("student", "reference")}
    pairs = (right["student"] & ~right["reference"]).sum(), (right["reference"] & ~right["student"]).sum()
    low, high = bounds(Pairs(len(kept["test/labels"]), *map(int, pairs)))
    assert (against["at_least"], against["at_most"]) == pytest.approx((low, high))
    assert against["difference"] == pytest.approx((pairs[0] - pairs[1]) / 10) and against["margin"] == 1.0


def test_no_training_depends_on_it(outputs: Path) -> None:
    with_it, without = planned(outputs, "reference=old", "reference.margin=3"), planned(outputs)
    assert [t.fingerprint for t in with_it.trainings] == [t.fingerprint for t in without.trainings]
    assert with_it.reference is not None and without.reference is None
    assert with_it.reference.origin == "old/student" and with_it.reference.margin == 3


def test_another_margin_and_another_reference_are_evaluated_and_nothing_else_is_lost(outputs: Path) -> None:
    before = report(outputs)
    words = ["reference=old", "reference.margin=50", "evaluation.figures=[accuracy]", "control=false"]
    assert main([*SMALL, *words, f"outputs_dir={outputs}"]) == 0
    after = report(outputs)
    assert after["models"]["reference"]["began_from"] == "old/student"
    assert after["comparison"]["reference"]["verdict"] == "as good"
    assert after["models"]["control"]["last"] == before["models"]["control"]["last"]
    assert after["comparison"]["agreement"] == before["comparison"]["agreement"]


def file_of(folder: Path, classes: list[str], order: list[int] | None = None) -> Path:
    """The old teacher's weights, its outputs in another order, in a file that states the classes."""
    weights = load_file(next(planned(folder, "seed=1").teacher.folder.glob("last.safetensors")))
    head = [name for name, tensor in weights.items() if tensor.shape[0] == 10]
    for name in head[-2:] if order else ():
        weights[name] = weights[name][order]
    path = folder / f"{'-'.join(classes)}.safetensors"
    save_weights(path, weights, {"classes": classes})
    return path


def test_permuted_classes_are_caught_and_read_by_name(outputs: Path) -> None:
    order = [3, 0, 1, 2, *range(4, 10)]
    names = [CLASSES[i] for i in order]
    words = ["reference.model=cnn_digits_small", f"reference.checkpoint={file_of(outputs, names, order)}"]
    said = refusal(outputs, *words)
    assert "reference.checkpoint=" in said and "in another order: class 0 is 3 there and 0 here" in said
    plan, plain = (
        planned(outputs, *words, "reference.class_map={}"),
        planned(outputs, f"reference={old(outputs)}/teacher"),
    )
    logits = [subject_of(each, there(each, ())).on_test("reference").logits for each in (plan, plain)]  # type: ignore[union-attr]
    torch.testing.assert_close(*logits)
    assert "class_map" in refusal(outputs, *words, "reference.class_map={x: '1'}")


def test_it_sees_its_own_normalisation_and_size(outputs: Path) -> None:
    plain = planned(outputs, "reference=old")
    other = planned(outputs, "reference=old", "dataset.mean=0.1", "dataset.std=0.5")
    images = [
        (p.ground.data.test.images[:50].float() / p.ground.data.white - p.ground.data.mean[0])
        / p.ground.data.std[0]
        for p in (plain, other)
    ]
    networks = [p.reference.network(p.ground) for p in (plain, other)]  # type: ignore[union-attr]
    with torch.no_grad():
        torch.testing.assert_close(networks[0](images[0]), networks[1](images[1]), rtol=1e-4, atol=1e-4)


def test_refusals(outputs: Path) -> None:
    run = old(outputs)
    assert "no such run" in refusal(outputs, "reference=nothing")
    assert "reference=RUN/control" in refusal(outputs, "reference=old/generation1")
    assert "its control is not kept" in refusal(outputs, "reference=old/control")
    assert "reference.model=MODEL" in refusal(outputs, f"reference={run}/report.json")
    assert "leave it out" in refusal(outputs, "reference=old", "reference.model=cnn_digits")
    assert "must be 0 to 100" in refusal(outputs, "reference=old", "reference.margin=-1")
    assert "of which model" in refusal(outputs, f"reference.checkpoint={run}/student.safetensors")
    assert "a trained model is needed" in refusal(outputs, "reference.model=cnn_digits")
    foreign = refusal(outputs, "reference=old", "dataset=fake", "dataset.size=8", "dataset.channels=1")
    assert "no class in common" in foreign
    assert "sees images of 1 channel; those of fake have 3" in refusal(
        outputs, "reference=old", "dataset=fake", "dataset.channels=3"
    )


def test_images_of_another_split_are_named(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", *SMALL, "reference=old", "dataset.split=1", f"outputs_dir={outputs}"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "learned from other images (split 0, here 1)" in text and "reference cnn_digits_small" in text
    assert np.isfinite(planned(outputs, "reference=old").reference.margin)  # type: ignore[union-attr]
