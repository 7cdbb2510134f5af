from __future__ import annotations

import math

import pytest
import torch

from kdrun.errors import KdrunError
from kdrun.losses.srd import EPSILON, SRD, srd
from kdrun.types import Batch, Outputs, Shapes

from .golden_cases import close


def slow(student: torch.Tensor, teacher: torch.Tensor, exponent: float) -> float:
    """One number at a time: every channel by its own mean and deviation, then log sum |.|^exponent."""
    total = 0.0
    rows, channels = student.shape
    for c in range(channels):
        columns = []
        for values in (student[:, c].tolist(), teacher[:, c].tolist()):
            mean = sum(values) / rows
            deviation = math.sqrt(sum((v - mean) ** 2 for v in values) / rows + EPSILON)
            columns.append([(v - mean) / deviation for v in values])
        total += sum(abs(s - t) ** exponent for s, t in zip(*columns, strict=True))
    return math.log(total)


@pytest.mark.parametrize("exponent", [1.0, 4.0, 5.0])
def test_as_one_number_at_a_time(exponent: float) -> None:
    generator = torch.Generator().manual_seed(0)
    student = torch.randn(7, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    teacher = torch.randn(7, 5, generator=generator, dtype=torch.float64)
    close(
        srd(student, teacher, exponent), torch.tensor(slow(student, teacher, exponent), dtype=torch.float64)
    )
    assert torch.autograd.gradcheck(lambda given: srd(given, teacher, exponent), student)


def test_by_hand() -> None:
    # (1, 3) becomes (-1, 1), (5, 1) becomes (1, -1): twice 2^4
    student, teacher = torch.tensor([[1.0], [3.0]]), torch.tensor([[5.0], [1.0]])
    assert srd(student, teacher).item() == pytest.approx(math.log(32), rel=1e-4)


def test_scale_shift_and_order_change_nothing() -> None:
    student, teacher = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    turned = srd(student[order], 30 * teacher[order] - 7)
    close(turned, srd(student, teacher), 1e-3)  # up to the epsilon in the deviation
    close(srd(student[order], teacher[order]), srd(student, teacher), 1e-12)


def test_maps_are_averaged_and_tokens_refused() -> None:
    torch.manual_seed(0)
    sizes = Shapes({"stage:0": (3, 4, 4), "embedding": (3,), "blocks": (9, 3)}, 1)
    by_map, by_vector = SRD(student_layer="stage:0"), SRD()
    for loss in (by_map, by_vector):
        loss.build(sizes, sizes)
    by_vector.load_state_dict(by_map.state_dict())
    maps = torch.randn(5, 3, 4, 4)
    student = Outputs(torch.zeros(5, 2), maps.mean((2, 3)), (maps,))
    teacher, batch = Outputs(torch.zeros(5, 2), torch.randn(5, 3)), Batch(maps, torch.zeros(5))
    close(by_map(student, teacher, batch), by_vector(student, teacher, batch), 1e-6)
    with pytest.raises(
        KdrunError, match=r"teacher_layer=blocks: a vector or a feature map is needed; it is \(9"
    ):
        SRD(teacher_layer="blocks").build(sizes, sizes)
