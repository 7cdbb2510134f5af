from __future__ import annotations

import math

import pytest
import torch

from kdrun.losses.nkd import normalised

from .golden_cases import case, close, matches, names


@pytest.mark.parametrize("name", names("nkd"))
def test_golden(name: str) -> None:
    tensors = case("nkd", name)
    temperature = 4.0 if name.endswith("T4") else 1.0
    parts = normalised(tensors["student.logits"], tensors["teacher.logits"], tensors["target"], temperature)
    close(parts.target, tensors["loss.target_part"])
    close(1.5 * parts.others, tensors["loss.non_target_part"])
    matches(tensors, parts.target + 1.5 * parts.others)


def test_by_hand() -> None:
    # T=1, label 1: teacher (1, 6, 2)/9, student (1, 2, 1)/4: -(6/9) ln 1/2, and ln 2 among the two others
    student, teacher = torch.tensor([[1.0, 2.0, 1.0]]).log(), torch.tensor([[1.0, 6.0, 2.0]]).log()
    parts = normalised(student, teacher, torch.tensor([1]), 1.0)
    assert parts.target.item() == pytest.approx(2 / 3 * math.log(2))
    assert parts.others.item() == pytest.approx(math.log(2))


def test_logit_shift_changes_nothing() -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 6, 10, generator=generator, dtype=torch.float64)
    labels = torch.arange(6)
    shifted = normalised(student + 2, teacher - 5, labels, 2.0)
    close(torch.stack(shifted), torch.stack(normalised(student, teacher, labels, 2.0)), 1e-12)
