from __future__ import annotations

import math

import pytest
import torch

from kdrun.errors import KdrunError
from kdrun.losses.at import AT, at, attention
from kdrun.types import Shapes

from .golden_cases import case, close, maps, matches, names


@pytest.mark.parametrize("name", names("at"))
def test_golden(name: str) -> None:
    tensors = case("at", name)
    matches(tensors, torch.stack([at(*pair) for pair in maps(tensors)]).sum(0))


def test_by_hand() -> None:
    # Squares (1, 4) against (4, 1), each over sqrt 17: the differences are 3 / sqrt 17 both ways
    student, teacher = torch.tensor([1.0, 2.0]).view(1, 1, 1, 2), torch.tensor([2.0, 1.0]).view(1, 1, 1, 2)
    assert at(student, teacher).item() == pytest.approx(9 / 17)
    assert attention(student, 2)[0, 0].item() == pytest.approx(1 / math.sqrt(17))


def test_scale_sign_and_order_of_channels_change_nothing() -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 3, 4, 5, 5, generator=generator, dtype=torch.float64)
    close(at(-4 * student.flip(1), teacher), at(student, teacher), 1e-12)
    assert at(student, 2 * student).max() < 1e-28


def test_stages_are_paired_from_the_last() -> None:
    student = Shapes({f"stage:{i}": (4, 8, 8) for i in range(3)}, 3)
    teacher = Shapes({f"stage:{i}": (4, 8, 8) for i in range(5)}, 5)
    loss = AT()
    assert loss.needs.student == {"logits", "stages"}
    loss.build(student, teacher)
    assert loss.needs.teacher == {"stage:-2", "stage:-1"}
    with pytest.raises(
        KdrunError, match="stages=3: needs 3 stages after the stem; the student has 2, the teacher 4"
    ):
        AT(3).build(student, teacher)
    with pytest.raises(
        KdrunError, match=r"feature maps \(C, H, W\) are needed; stage:-1 of the student is \(9, 6\)"
    ):
        AT().build(Shapes({"stage:0": (9, 6), "stage:1": (9, 6)}, 2), teacher)
