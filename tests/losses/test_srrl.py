from __future__ import annotations

import pytest
import torch

from kdrun.errors import KdrunError
from kdrun.losses.regressors import Connector
from kdrun.losses.srrl import SRRL, srrl
from kdrun.types import Batch, HeadWeights, Outputs, Shapes

from .golden_cases import case, matches, run

RENAMED = {"conv.": "param.conv.", "bn.": "param.bn."}


def test_golden_from_a_map() -> None:
    tensors = case("srrl", "authors_map_form")
    connected = run(Connector(8, 12, relu=True), tensors, RENAMED, tensors["student.f"]).mean((2, 3))
    classifier = HeadWeights(tensors["teacher.fc.weight"], tensors["teacher.fc.bias"])
    matches(
        tensors, srrl(connected, tensors["teacher.f"].mean((2, 3)), tensors["teacher.logits"], classifier)
    )


def test_golden_from_a_vector() -> None:
    tensors = case("srrl", "pooled_form")
    connected = run(Connector(8, 12, relu=True), tensors, RENAMED, tensors["student.f"][:, :, None, None])
    classifier = HeadWeights(tensors["teacher.fc.weight"], tensors["teacher.fc.bias"])
    matches(tensors, srrl(connected.flatten(1), tensors["teacher.f"], tensors["teacher.logits"], classifier))


def test_by_hand() -> None:
    # Features differ by (1, 2): mean of squares 2.5. Read by (1, 1) and bias 1 they give 4 against 2: 4
    classifier = HeadWeights(torch.ones(1, 2), torch.ones(1))
    loss = srrl(
        torch.tensor([[1.0, 2.0]]), torch.zeros(1, 2), torch.full((1, 1), 2.0), classifier, softmax=0.5
    )
    assert loss.item() == pytest.approx(2.5 + 0.5 * 4)


def test_the_teachers_own_features_are_the_best() -> None:
    generator = torch.Generator().manual_seed(0)
    features, weight = torch.randn(4, 6, generator=generator), torch.randn(3, 6, generator=generator)
    assert srrl(features, features, features @ weight.T, HeadWeights(weight)).max() < 1e-12


@pytest.mark.parametrize("layer", ["stage:-1", "embedding"])
def test_the_student_reads_a_map_or_a_vector(layer: str) -> None:
    loss = SRRL(layer)
    loss.build(Shapes({"stage:0": (4, 2, 2), "embedding": (16,)}, 1), Shapes({"embedding": (6,)}, 1, (3, 6)))
    maps = torch.randn(5, 4, 2, 2, requires_grad=True)
    student = Outputs(torch.randn(5, 3), maps.flatten(1), (maps,))
    teacher = Outputs(torch.randn(5, 3), torch.randn(5, 6), classifier=HeadWeights(torch.randn(3, 6)))
    loss(student, teacher, Batch(torch.zeros(5, 1), torch.zeros(5))).sum().backward()
    assert maps.grad is not None and maps.grad.any()


def test_a_teacher_without_a_linear_classifier_is_refused() -> None:
    student = Shapes({"stage:0": (4, 2, 2), "embedding": (4,)}, 1)
    with pytest.raises(KdrunError, match="must be a linear one, which reads its embedding"):
        SRRL().build(student, Shapes({"embedding": (6,)}, 1))
