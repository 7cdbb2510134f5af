from __future__ import annotations

import pytest
import torch
from torch import Tensor

from kdrun.errors import KdrunError
from kdrun.losses.cat_kd import CatKD, binarised, cat_kd, class_maps
from kdrun.types import POOLED, Batch, HeadWeights, Outputs, Shapes

from .golden_cases import case, matches


@pytest.mark.parametrize(
    ("name", "size", "binary"),
    [("same_size_res2", 2, False), ("other_spatial_res4", 4, False), ("binarised_teacher_res4", 4, True)],
)
def test_golden(name: str, size: int, binary: bool) -> None:
    tensors = case("cat_kd", name)
    student = class_maps(tensors["student.f"], tensors["param.head.weight"].flatten(1))
    teacher = class_maps(tensors["teacher.f"], tensors["teacher.head.weight"].flatten(1))
    teacher = binarised(teacher) if binary else teacher
    matches(tensors, cat_kd(student, teacher, size, normalise=True))


def test_golden_of_signs() -> None:
    tensors = case("cat_kd", "hand_res1_opposite_sign")
    matches(tensors, cat_kd(tensors["student.cam"], tensors["teacher.cam"], 1, normalise=True))


def test_by_hand() -> None:
    # Class maps: 1 * (1, 3) + 2 * (0, 1) = (1, 5); against (1, 1): mean of 0 and 16
    maps = class_maps(torch.tensor([1.0, 3.0, 0.0, 1.0]).view(1, 2, 1, 2), torch.tensor([[1.0, 2.0]]))
    assert maps.flatten().tolist() == [1.0, 5.0]
    assert cat_kd(maps.expand(1, 1, 2, 2), torch.ones(1, 1, 2, 2), 2, False).item() == pytest.approx(8.0)
    assert binarised(torch.tensor([-3.0, 1.0, 2.5, 0.0]).view(1, 1, 2, 2)).flatten().tolist() == [0, 0, 1, 0]


def test_normalised_maps_have_no_scale() -> None:
    student, teacher = torch.randn(2, 3, 4, 6, 6, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(cat_kd(3 * student, teacher, 2, True), cat_kd(student, 7 * teacher, 2, True))
    assert not cat_kd(student, student, 2, False).any()


def outputs(maps: Tensor) -> Outputs:
    weight = torch.randn(3, maps.shape[1], requires_grad=True)
    return Outputs(torch.randn(2, 3), layers={POOLED: maps}, classifier=HeadWeights(weight))


def test_the_students_classifier_learns_and_the_teachers_does_not() -> None:
    maps = torch.randn(2, 4, 3, 3)
    student, teacher = (outputs(maps * scale) for scale in (1, 2))
    loss = CatKD()
    shapes = Shapes({POOLED: (4, 3, 3)}, 1, (3, 4))
    loss.build(shapes, shapes)
    loss(student, teacher, Batch(torch.zeros(2, 1), torch.zeros(2))).sum().backward()
    assert student.classifier is not None and teacher.classifier is not None
    assert student.classifier.weight.grad is not None
    assert teacher.classifier.weight.grad is None


def test_classifiers_that_read_something_else_are_refused() -> None:
    fits = Shapes({POOLED: (4, 3, 3)}, 1, (3, 4))
    with pytest.raises(KdrunError, match="the student's classifier must be one linear layer on the mean"):
        CatKD().build(Shapes({"stage:0": (4, 3, 3)}, 1, (3, 36)), fits)
    with pytest.raises(KdrunError, match="the teacher's classifier"):
        CatKD().build(fits, fits._replace(classifier=None))
