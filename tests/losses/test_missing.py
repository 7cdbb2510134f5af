"""Losses that take a teacher's missing logits, and images for which there is no answer."""

from __future__ import annotations

import pytest
import torch

from kdrun.losses.lookup import LOSSES, find
from kdrun.losses.mix import make_mix
from kdrun.types import MISSING, Batch, Outputs

TAKES = [name for name in LOSSES.names() if find(name, "loss").takes_missing]


def outputs(floor: float = MISSING) -> tuple[Outputs, Outputs, Batch]:
    """Logits of six images in float64; the teacher knows the first three of five classes."""
    draw = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 6, 5, generator=draw, dtype=torch.float64)
    teacher[:, 3:] = floor
    return Outputs(student.requires_grad_()), Outputs(teacher), Batch(torch.zeros(6, 1), torch.arange(6) % 5)


def test_these_take_missing_logits() -> None:
    assert TAKES == ["ctkd", "hard_labels", "soft_targets", "ttm", "wttm"]


@pytest.mark.parametrize("name", TAKES)
def test_a_missing_class_has_no_probability(name: str) -> None:
    """The value does not depend on how low the floor is, and the gradient pushes missing classes down."""
    values = []
    for floor in (MISSING, 100 * MISSING):
        student, teacher, batch = outputs(floor)
        value = find(name, "loss")().double()(student, teacher, batch)
        assert value.shape == (6,) and value.isfinite().all()
        value.sum().backward()
        gradient = student.logits.grad
        assert gradient is not None and gradient.isfinite().all() and (gradient[:, 3:] > 0).all()
        values.append(value.detach())
    assert torch.equal(*values)


@pytest.mark.parametrize("name", TAKES)
def test_an_image_without_an_answer_does_not_count(name: str) -> None:
    mix = make_mix({"own": {"name": name}, "hard": {"name": "cross_entropy"}}).double()
    student, teacher, batch = outputs()
    counts = torch.tensor([True, False, True, False, False, True])
    whole = mix(student, teacher._replace(counts=counts), batch)
    part = mix(
        Outputs(student.logits[counts]),
        Outputs(teacher.logits[counts]),
        Batch(batch.images[counts], batch.labels[counts]),
    )
    torch.testing.assert_close(whole.parts[0], part.parts[0], rtol=1e-12, atol=0)
    torch.testing.assert_close(whole.parts[1], mix(student, teacher, batch).parts[1], rtol=1e-12, atol=0)
    none = mix(student, teacher._replace(counts=torch.zeros(6, dtype=torch.bool)), batch)
    assert none.parts[0] == 0 and none.total.isfinite()
