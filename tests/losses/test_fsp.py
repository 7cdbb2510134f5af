from __future__ import annotations

import pytest
import torch

from kdrun.errors import KdrunError
from kdrun.losses.fsp import FSP, flow
from kdrun.types import Batch, Outputs, Shapes

from .golden_cases import case, close, matches, names


def maps(tensors: dict[str, torch.Tensor], side: str) -> tuple[torch.Tensor, ...]:
    found = [tensors[f"{side}.f{i}"] for i in range(3) if f"{side}.f{i}" in tensors]
    return tuple(found)


@pytest.mark.parametrize("name", names("fsp"))
def test_golden(name: str) -> None:
    tensors = case("fsp", name)
    loss, outputs, shapes = FSP(), [], []
    for side in ("student", "teacher"):
        stages = maps(tensors, side)
        outputs.append(Outputs(torch.zeros(1), stages=stages))
        sizes = {f"stage:{i}": tuple(stage.shape[1:]) for i, stage in enumerate(stages)}
        shapes.append(Shapes(sizes, len(stages)))
    loss.build(*shapes)
    matches(tensors, loss(*outputs, Batch(torch.zeros(1), torch.zeros(1))))


def test_by_hand() -> None:
    # One position: 2 * 3
    assert flow(torch.full((1, 1, 1, 1), 2.0), torch.full((1, 1, 1, 1), 3.0)).item() == 6


def test_the_order_of_positions_does_not_matter() -> None:
    first, second = torch.randn(
        2, 3, 4, 5, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    close(flow(first.flip(2), second.flip(2)), flow(first, second), 1e-12)


def test_unequal_channels_are_refused() -> None:
    student = Shapes({f"stage:{i}": (4, 8, 8) for i in range(3)}, 3)
    teacher = Shapes({f"stage:{i}": (6, 8, 8) for i in range(3)}, 3)
    with pytest.raises(KdrunError, match="stage:-3 has 4 in the student, 6 in the teacher"):
        FSP().build(student, teacher)
    with pytest.raises(KdrunError, match="needs 2 stages; the student has 3, the teacher 3"):
        FSP(1).build(student, student)
