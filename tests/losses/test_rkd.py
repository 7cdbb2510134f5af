from __future__ import annotations

import pytest
import torch

from kdrun.losses.rkd import relations

from .golden_cases import case, close, matches, names

WEIGHTS = {"b8d16_w12": (1.0, 2.0), "hand": (1.0, 2.0)}


@pytest.mark.parametrize("name", names("rkd"))
def test_golden(name: str) -> None:
    tensors = case("rkd", name)
    distance, angle = WEIGHTS.get(name, (25.0, 50.0))
    parts = relations(tensors["student.embedding"], tensors["teacher.embedding"])
    close(parts.distance, tensors["loss.distance"])
    close(parts.angle, tensors["loss.angle"])
    matches(tensors, distance * parts.distance + angle * parts.angle)


def test_by_hand() -> None:
    # Student: a 3-4-5 triangle; teacher: 0, 1, 2 on a line
    student = torch.tensor([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]])
    teacher = torch.tensor([[0.0], [1.0], [2.0]])
    parts = relations(student, teacher)
    assert parts.distance.item() == pytest.approx(0.5 / 9, rel=1e-5)
    assert parts.angle.item() == pytest.approx(3.24 / 27, rel=1e-5)


def test_scale_shift_and_rotation_change_nothing() -> None:
    generator = torch.Generator().manual_seed(0)
    student = torch.randn(6, 4, generator=generator, dtype=torch.float64)
    turned, _ = torch.linalg.qr(torch.randn(4, 4, generator=generator, dtype=torch.float64))
    assert max(part.item() for part in relations(7 * student @ turned + 3, student)) < 1e-25


def test_equal_images_leave_the_gradient_small() -> None:
    tensors = case("rkd", "b8d16_duplicate")
    student = tensors["student.embedding"].requires_grad_()
    relations(student, tensors["teacher.embedding"]).angle.backward()
    assert student.grad is not None
    assert student.grad.abs().max() < 1
