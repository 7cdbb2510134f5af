from __future__ import annotations

import pytest
import torch

from kdrun.errors import KdrunError
from kdrun.losses.feature import Feature, feature
from kdrun.losses.regressors import MapRegressor, VectorRegressor, regressor
from kdrun.types import Batch, Outputs, Shapes

from .golden_cases import case, matches, run

REGRESSED = ["same_size_conv1x1", "student_double_conv3x3_stride2", "student_half_transposed4x4"]


@pytest.mark.parametrize("name", REGRESSED)
def test_golden_with_regressor(name: str) -> None:
    tensors = case("fitnet", name)
    student, teacher = tensors["student.f"], tensors["teacher.f"]
    layer = regressor(tuple(student.shape[1:]), tuple(teacher.shape[1:]))
    assert isinstance(layer, MapRegressor)
    regressed = run(layer, tensors, {"conv.": "param.conv.", "bn.": "param.bn."}, student)
    matches(tensors, feature(regressed, teacher))


def test_golden_without_regressor() -> None:
    tensors = case("fitnet", "hand_no_regressor")
    matches(tensors, feature(tensors["student.f"], tensors["teacher.f"]))


@pytest.mark.parametrize("name", ["b8c10", "b1c10", "hand"])
def test_golden_cosine(name: str) -> None:
    tensors = case("cosine", name)
    matches(tensors, feature(tensors["student.logits"], tensors["teacher.logits"], "cosine"))


def test_by_hand() -> None:
    # u = (3, 4), v = (4, 3): cos 24/25; u = (1, 0), v = (0, 2): cos 0
    student, teacher = torch.tensor([[3.0, 4.0], [1.0, 0.0]]), torch.tensor([[4.0, 3.0], [0.0, 2.0]])
    assert feature(student, teacher, "cosine").tolist() == pytest.approx([0.04, 1.0])
    assert feature(student, teacher, "mse").tolist() == pytest.approx([1.0, 2.5])


def test_cosine_does_not_see_lengths() -> None:
    student, teacher = torch.randn(2, 4, 3, 5, generator=torch.Generator().manual_seed(5))
    scaled = feature(3 * student, teacher / 2, "cosine")
    torch.testing.assert_close(scaled, feature(student, teacher, "cosine"))


@pytest.mark.parametrize(
    ("student", "teacher"),
    [
        ((4, 8, 8), (6, 3, 5)),
        ((4, 2, 2), (6, 5, 5)),
        ((4, 8, 8), (6, 4, 4)),
        ((4, 2, 4), (6, 4, 8)),
        ((4, 3, 3), (7,)),
        ((5,), (7,)),
        ((9, 5), (9, 7)),
    ],
)
def test_any_two_shapes(student: tuple[int, ...], teacher: tuple[int, ...]) -> None:
    layer = regressor(student, teacher)
    assert isinstance(layer, (MapRegressor, VectorRegressor))
    assert layer(torch.randn(2, *student)).shape == (2, *teacher)


def test_equal_shapes_need_no_regressor() -> None:
    shapes = Shapes({"stage:0": (3, 4, 4), "stage:1": (6, 2, 2)}, 2)
    loss = Feature("stage:-1", "stage:1")
    loss.build(shapes, shapes)
    assert not list(loss.parameters())
    maps = (torch.ones(2, 3, 4, 4), torch.randn(2, 6, 2, 2))
    outputs = Outputs(torch.zeros(2, 3), stages=maps)
    assert not loss(outputs, outputs, Batch(maps[0], torch.zeros(2).long())).any()


def test_refusals() -> None:
    shapes = Shapes({"stage:0": (3, 4, 4), "stage:1": (6, 2, 2), "embedding": (7,)}, 2)
    with pytest.raises(
        KdrunError, match=r"^student_layer=stage:5: the student has no such layer\. Choices: stage:0"
    ):
        Feature("stage:5").build(shapes, shapes)
    with pytest.raises(KdrunError, match=r"no regressor leads from \(7,\) to \(6, 2, 2\)"):
        Feature("embedding", "stage:1").build(shapes, shapes)
    with pytest.raises(KdrunError, match="no such distance"):
        Feature(distance="l1")
