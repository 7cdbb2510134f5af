"""Several trainings in one loop: each ends with the bits that it has alone, if the loop is broken off too."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from kdrun.records import read_rows
from kdrun.training.checkpoint import read_state
from kdrun.training.fit import Strand, fit
from kdrun.training.seeds import Draws, generators
from kdrun.training.step import Learner, Step
from tests.training.world import KD, Killed, World, same

SEEDS = (0, 1, 0)


def alone(folder: Path, seed: int) -> dict[str, Tensor]:
    world = World(folder, KD)
    fit(world.course, world.step, [replace(world.strand(), seed=seed)], world.checkpoint.restore(None))
    return world.model.state_dict()


class Group:
    """Three worlds, whose learners are those of one step; the first and the last see the same rows."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.worlds = [World(folder / str(number), KD) for number in range(len(SEEDS))]
        learners: list[Learner] = []
        for world in self.worlds:
            (learner,) = world.step.learners
            learner.draws, learner.stream = Draws(0, "dropout"), SEEDS[len(learners)]
            learners.append(learner)
            torch.manual_seed(11)  # as each world alone begins
            learner.draws.state = generators()
        one = self.worlds[0].step
        self.step = Step(tuple(learners), one.teacher, one.images, one.labels)

    def strands(self) -> list[Strand]:
        return [replace(world.strand(), seed=seed) for world, seed in zip(self.worlds, SEEDS, strict=True)]

    def run(self) -> list[dict[str, Tensor]]:
        positions = [world.checkpoint.restore(read_state(world.path)) for world in self.worlds]
        assert len({position[:2] for position in positions}) == 1
        fit(self.worlds[0].course, self.step, self.strands(), positions[0])
        return [world.model.state_dict() for world in self.worlds]


@pytest.mark.parametrize("broken_at", [None, 7, 13])
def test_each_ends_with_the_bits_that_it_has_alone(tmp_path: Path, broken_at: int | None) -> None:
    if broken_at is not None:
        broken, steps = Group(tmp_path / "group"), 0
        learn = broken.step.batch

        def dying(rows: object) -> object:
            nonlocal steps
            steps += 1
            if steps == 2 * broken_at:  # two different batches a step
                raise Killed
            return learn(rows)  # type: ignore[arg-type]

        broken.step.batch = dying  # type: ignore[method-assign, assignment]
        with pytest.raises(Killed):
            broken.run()
    ends = Group(tmp_path / "group").run()
    for number, (seed, end) in enumerate(zip(SEEDS, ends, strict=True)):
        assert same(end, alone(tmp_path / f"alone{number}", seed))
        rows = read_rows(tmp_path / "group" / str(number) / "metrics.jsonl")
        assert [row["epoch"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert same(ends[0], ends[2]) and not same(ends[0], ends[1])
