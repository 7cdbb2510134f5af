"""Gradients of the terms on a fixed batch: the right figures, and no trace in the training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from kdrun.losses.cross_entropy import cross_entropy
from kdrun.records import read_rows
from kdrun.training.pulls import GradientDiagnostics, fixed_batch
from kdrun.types import Rows
from tests.training.world import KD, Codes, World, images, same

RISING = {
    "hard": KD["hard"],
    "soft": KD["soft"] | {"weight": {"from": 0.0, "to": 0.9, "epochs": 2, "shape": "linear"}},
    "drawn": {"name": "feature", "weight": 0.1, "student_layer": "logits", "teacher_layer": "logits"},
}


def gradients(world: World, labelled: int = 20) -> GradientDiagnostics:
    learner, teacher = world.step.learners[0], world.step.teacher
    labels = torch.where(torch.arange(20) < labelled, world.step.labels, -1)
    batch = fixed_batch(images, labels, torch.arange(20), Codes(), 0)
    return GradientDiagnostics(learner, batch, teacher, 0)


def test_a_training_ends_with_the_same_bits(tmp_path: Path) -> None:
    alone = World(tmp_path / "alone", KD).run()
    watched = World(tmp_path / "watched", KD)
    measured = gradients(watched)
    watched.diagnose = lambda: {"gradients": measured()}
    assert same(watched.run(), alone)
    rows = [read_rows(tmp_path / name / "metrics.jsonl") for name in ("alone", "watched")]
    assert all("gradients" not in row for row in rows[0])
    assert [row["terms"] for row in rows[0]] == [row["terms"] for row in rows[1]]
    for row in rows[1]:
        assert set(row["gradients"]) == {"hard", "soft"}
        assert row["gradients"]["hard"]["cosine"] == 1.0
        assert -1 <= row["gradients"]["soft"]["cosine"] < 1
        assert row["gradients"]["soft"]["norm"] > 0


def test_norms_are_those_of_the_weighted_terms(tmp_path: Path) -> None:
    world = World(tmp_path, KD)
    measured = gradients(world)
    model, batch = world.model.eval(), measured.batch
    loss = 0.1 * cross_entropy(model(batch.images), batch.labels).mean()
    parts = torch.autograd.grad(loss, list(model.parameters()))
    norm = torch.cat([part.flatten() for part in parts]).norm().item()
    assert measured()["hard"]["norm"] == pytest.approx(norm, rel=1e-5)


def test_a_term_of_weight_zero_has_a_direction_but_no_length(tmp_path: Path) -> None:
    world = World(tmp_path, {name: RISING[name] for name in ("hard", "soft")})
    measured = gradients(world)()
    assert measured["soft"]["norm"] == 0.0
    assert "cosine" in measured["soft"]
    world.step.learners[0].mix.advance(1)
    assert gradients(world)()["soft"]["norm"] > 0


def test_without_labels_there_is_no_cosine(tmp_path: Path) -> None:
    measured = gradients(World(tmp_path, KD), labelled=0)()
    assert measured["hard"] == {"norm": 0.0}
    assert set(measured["soft"]) == {"norm"}


def test_labelled_images_come_first() -> None:
    labels = torch.full((300,), -1)
    labels[::10] = 2
    rows = torch.arange(100, 300)
    batch = fixed_batch(pixels, labels, rows, Codes(), 3)
    again = fixed_batch(pixels, labels, rows, Codes(), 3)
    assert batch.rows is not None and again.rows is not None
    assert len(batch.labels) == 64
    assert int((batch.labels >= 0).sum()) == 20
    assert (batch.labels[:20] >= 0).all()
    assert int(batch.rows.index.min()) >= 100
    assert torch.equal(batch.rows.index, again.rows.index)
    assert torch.equal(batch.rows.view, again.rows.view)


def pixels(rows: Rows) -> Tensor:
    return rows.index[:, None].float()


def test_random_numbers_and_modes_are_put_back(tmp_path: Path) -> None:
    world: Any = World(tmp_path, KD)
    measured = gradients(world)
    world.model.train()
    before = torch.get_rng_state()
    first = measured()
    assert torch.equal(torch.get_rng_state(), before)
    assert world.model.training and all(module.training for module in world.model.modules())
    assert all(parameter.grad is None for parameter in world.model.parameters())
    assert measured() == first
