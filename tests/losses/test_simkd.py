from __future__ import annotations

import pytest
import torch

from kdrun.errors import KdrunError
from kdrun.losses.simkd import SimKD, simkd
from kdrun.models.reused import Projector
from kdrun.types import POOLED, Shapes

from .golden_cases import case, matches, run


@pytest.mark.parametrize("name", ["same_size", "student_smaller"])
def test_golden_with_projector(name: str) -> None:
    tensors = case("simkd", name)
    renamed = {f"{i}.": f"param.transfer.{i}." for i in (0, 1, 3, 4, 6, 7)}
    projected = run(Projector(8, 12), tensors, renamed, tensors["student.f"])
    matches(tensors, simkd(projected, tensors["teacher.f"]))


def test_by_hand() -> None:
    # The teacher's four positions have the mean 2; the student's one says 5
    teacher = torch.tensor([0.0, 1.0, 3.0, 4.0]).view(1, 1, 2, 2)
    assert simkd(torch.full((1, 1, 1, 1), 5.0), teacher).item() == pytest.approx(9.0)


def test_equal_maps_lose_nothing_and_the_teacher_learns_nothing() -> None:
    maps = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)
    other = torch.zeros_like(maps, requires_grad=True)
    assert not simkd(maps, maps).any()
    simkd(other, maps).sum().backward()
    assert maps.grad is None and other.grad is not None


def test_a_student_without_a_projector_is_refused() -> None:
    student, teacher = (Shapes({POOLED: (c, 4, 4)}, 1) for c in (4, 6))
    with pytest.raises(KdrunError, match="must give 6 channels"):
        SimKD().build(student, teacher)
