from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from kdrun.errors import KdrunError
from kdrun.losses.kdsvd import KDSVD, MORE, Eigenvectors, aligned, kdsvd, strengths, vectors
from kdrun.types import Shapes

from .golden_cases import case, matches


def stage(ours: Tensor, theirs: Tensor, found: Tensor) -> tuple[Tensor, Tensor]:
    """As the loss does, with the signs of the teacher's vectors that the golden value was computed with."""
    count = found.shape[2]
    own = vectors(theirs, count)
    torch.testing.assert_close((own * found).sum(1).abs(), torch.ones_like(own[:, 0]))
    weights = strengths(theirs, count)[:, None]
    return aligned(vectors(ours, count + MORE), found) * weights, found * weights


@pytest.mark.parametrize(("name", "layers"), [("three_maps_k1", 3), ("teacher_other_spatial_k2", 2)])
def test_golden(name: str, layers: int) -> None:
    tensors = case("kdsvd", name)
    stages = [
        stage(tensors[f"student.f{i}"], tensors[f"teacher.f{i}"], tensors[f"buffer.teacher_v{i}"])
        for i in range(layers)
    ]
    matches(tensors, kdsvd(stages), 1e-7)


def test_by_hand() -> None:
    # Student: 1 and 0 beside 1; teacher: 1 beside 1. exp(0) - 1, exp(-1/8) - 1
    student, teacher = torch.tensor([1.0, 0.0]).view(1, 2, 1), torch.ones(1, 2, 1)
    one = torch.ones(1, 1, 1)
    loss = kdsvd([(student, teacher), (one, one)])
    assert loss.item() == pytest.approx((1 - math.exp(-1 / 8)) ** 2)


def test_signs_and_order_of_the_students_vectors_do_not_matter() -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(2, 5, n, generator=generator, dtype=torch.float64) for n in (4, 2))
    turned = student.flip(2) * torch.tensor([1.0, -1.0, -1.0, 1.0])
    torch.testing.assert_close(aligned(turned, teacher), aligned(student, teacher))


def test_gradient_of_eigenvectors() -> None:
    matrices = torch.randn(2, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def first(given: Tensor) -> Tensor:
        found: Tensor = Eigenvectors.apply(given + given.transpose(1, 2))  # type: ignore[no-untyped-call]
        return found[:, :, 0].square()  # has no sign

    assert torch.autograd.gradcheck(first, matrices.requires_grad_())
    equal = torch.eye(3).expand(1, 3, 3).clone().requires_grad_()
    Eigenvectors.apply(equal).sum().backward()  # type: ignore[no-untyped-call]
    assert equal.grad is not None and equal.grad.isfinite().all()


def test_unequal_channels_are_refused() -> None:
    student, teacher = ({f"stage:{i}": (c, 4, 4) for i in range(3)} for c in (4, 6))
    with pytest.raises(KdrunError, match="equal channels are needed"):
        KDSVD().build(Shapes(student, 3), Shapes(teacher, 3))
