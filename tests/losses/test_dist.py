from __future__ import annotations

import pytest
import torch

from kdrun.losses.dist import relations

from .golden_cases import case, close, matches, names

WEIGHTS = {"b8c10_b2g05_tau2": (2.0, 0.5)}


@pytest.mark.parametrize("name", names("dist"))
def test_golden(name: str) -> None:
    tensors = case("dist", name)
    beta, gamma = WEIGHTS.get(name, (1.0, 1.0))
    temperature = 1.0 if name == "hand" else float(name[-1])
    parts = relations(tensors["student.logits"], tensors["teacher.logits"], temperature)
    close(parts.inter, tensors["loss.inter"])
    close(parts.intra, tensors["loss.intra"])
    matches(tensors, beta * parts.inter + gamma * parts.intra, 1e-8 if name == "hand" else 1e-9)


def test_by_hand() -> None:
    # Two classes: rows correlate by +1 and -1; both columns rise in the student and fall in the teacher
    student = torch.tensor([[2.0, 1.0], [3.0, 1.0]]).log()
    teacher = torch.tensor([[3.0, 1.0], [1.0, 3.0]]).log()
    parts = relations(student, teacher, 1.0)
    assert parts.inter.item() == pytest.approx(1.0, abs=1e-5)
    assert parts.intra.item() == pytest.approx(2.0, abs=1e-5)


def test_shifts_and_equality() -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 6, 10, generator=generator, dtype=torch.float64)
    shifted = relations(student + 3, teacher - torch.arange(6.0)[:, None], 4.0)
    close(torch.stack(shifted), torch.stack(relations(student, teacher, 4.0)), 1e-9)
    assert torch.stack(relations(student, student, 4.0)).abs().max() < 1e-4


def test_uniform_student_is_finite() -> None:
    student = torch.zeros(4, 10, requires_grad=True)
    teacher = torch.randn(4, 10, generator=torch.Generator().manual_seed(1))
    sum(relations(student, teacher, 1.0)).backward()
    assert student.grad is not None
    assert student.grad.isfinite().all()
