"""Two phases by schedules: one term alone, then the other alone, continued in either with the same bits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from kdrun.losses.mix import make_mix
from kdrun.types import Rows
from tests.training.test_fit import KD, Killed, World, same

CONF = Path(__file__).parents[2] / "conf"
PHASES = {
    "hard": KD["hard"] | {"weight": {"from": 0.0, "to": 1.0, "epochs": 3, "shape": "step"}},
    "soft": KD["soft"] | {"weight": {"from": 0.9, "to": 0.0, "epochs": 3, "shape": "step"}},
}


@pytest.mark.parametrize("name", ["ab_first", "fsp_first"])
def test_presets_have_one_term_at_a_time(name: str) -> None:
    preset = yaml.safe_load((CONF / "method" / f"{name}.yaml").read_text())
    weights = [term["weight"] for term in preset["loss"].values()]
    mix = make_mix({f"t{i}": {"name": "cross_entropy", "weight": weight} for i, weight in enumerate(weights)})
    for epoch, learning in (
        (0, [False, True]),
        (29, [False, True]),
        (30, [True, False]),
        (200, [True, False]),
    ):
        mix.advance(epoch)
        assert (mix.weights > 0).tolist() == learning


def test_the_second_phase_begins_where_the_first_ended(tmp_path: Path) -> None:
    stop(both := World(tmp_path / "both", PHASES), 10)
    stop(first := World(tmp_path / "first", {"soft": KD["soft"]}), 10)
    assert same(both.model.state_dict(), first.model.state_dict())


@pytest.mark.parametrize("stop_at", [4, 14])
def test_either_phase_is_continued_with_the_same_bits(tmp_path: Path, stop_at: int) -> None:
    whole = World(tmp_path / "whole", PHASES).run()
    stop(World(tmp_path / "parts", PHASES), stop_at)
    assert same(World(tmp_path / "parts", PHASES).run(), whole)


def stop(world: World, at: int) -> None:
    """Ends the training before its step number `at`, counted from 1."""
    inner, steps = world.step, 0

    class Dying:
        learners, teacher, lr, prepare = inner.learners, inner.teacher, inner.lr, inner.prepare

        def __call__(self, rows: Sequence[Rows]) -> None:
            nonlocal steps
            steps += 1
            if steps == at:
                raise Killed
            inner(rows)

    made: Any = Dying()
    world.step = made
    with pytest.raises(Killed):
        world.run()
    assert torch.isfinite(world.step.learners[0].sums).all()
