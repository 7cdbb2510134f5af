from __future__ import annotations

import math

import pytest
import torch

from kdrun.losses.cross_entropy import cross_entropy
from kdrun.losses.hard_labels import hard_labels

from .golden_cases import case, close


def test_golden_where_the_teacher_answers_with_the_label() -> None:
    tensors = case("kd", "b8c10_mix")
    teacher = torch.nn.functional.one_hot(tensors["target"], 10).double()
    close(hard_labels(tensors["student.logits"], teacher), tensors["loss.ce"])


def test_by_hand() -> None:
    student = torch.tensor([[1.0, 1.0], [3.0, 1.0]]).log()
    teacher = torch.tensor([[2.0, 1.0], [-3.0, -2.0]])
    assert hard_labels(student, teacher).tolist() == pytest.approx([math.log(2), math.log(4)])


def test_only_the_teachers_order_counts() -> None:
    generator = torch.Generator().manual_seed(2)
    student, teacher = torch.randn(2, 6, 4, generator=generator)
    expected = cross_entropy(student, teacher.argmax(dim=1))
    assert torch.equal(hard_labels(student, teacher), hard_labels(student, 5 * teacher + 1))
    close(hard_labels(student, teacher), expected, 1e-6)
