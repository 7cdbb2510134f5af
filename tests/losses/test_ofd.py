from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from kdrun.losses.ofd import OFD, Margin, partial_l2, summed
from kdrun.losses.regressors import Connector, resized
from kdrun.types import Shapes

from .golden_cases import case, close, maps, matches, run


@pytest.mark.parametrize("name", ["three_stages", "teacher_larger_mdistiller_pool"])
def test_golden(name: str) -> None:
    tensors = case("ofd", name)
    parts = []
    for i, (student, teacher) in enumerate(maps(tensors)):
        connector = Connector(student.shape[1], teacher.shape[1])
        renamed = {"conv.": f"param.connectors.{i}.0.", "bn.": f"param.connectors.{i}.1."}
        connected = run(connector, tensors, renamed, student)
        teacher = resized(teacher, (student.shape[2], student.shape[3]))
        parts.append(partial_l2(connected, teacher, tensors[f"buffer.margin{i}"]))
    matches(tensors, summed(parts) / 1000)


def test_golden_without_connector() -> None:
    tensors = case("ofd", "hand_margin_and_partial_l2")
    matches(tensors, partial_l2(tensors["student.f"], tensors["teacher.f"], tensors["buffer.margin"]))


def test_by_hand() -> None:
    # margin -1: raised teacher (-1, -1, 2, -0.5); counted: 0 > -1, not -2, 1 against 2, 3 > -0.5
    student = torch.tensor([0.0, -2.0, 1.0, 3.0]).view(1, 1, 2, 2)
    teacher = torch.tensor([-5.0, -5.0, 2.0, -0.5]).view(1, 1, 2, 2)
    loss = partial_l2(student, teacher, torch.tensor([-1.0]))
    assert loss.item() == pytest.approx(1 + 0 + 1 + 3.5**2)


def test_an_inactive_student_may_be_as_low_as_it_likes() -> None:
    teacher = -torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    assert not partial_l2(torch.full((2, 3, 4, 4), -9.0), teacher, torch.full((3,), -0.5)).any()


def test_margins_approach_the_expectation_of_the_paper() -> None:
    # A normal response of mean 0 and deviation 1: E[x | x < 0] = -sqrt(2 / pi)
    generator = torch.Generator().manual_seed(0)
    margin = Margin(2)
    for _ in range(20):
        margin(torch.randn(8, 2, 8, 8, generator=generator))
    close(margin.mean, torch.full((2,), -((2 / torch.pi) ** 0.5)), 0.03)
    learned = margin.mean.clone()
    margin.eval()
    assert torch.equal(margin(5 * torch.randn(8, 2, 8, 8, generator=generator)), learned)


def test_a_channel_that_is_never_negative_keeps_its_margin() -> None:
    margin = Margin(1)
    assert margin(F.relu(torch.randn(2, 1, 3, 3))).item() == 0


def test_reads_before_the_activation() -> None:
    sizes = {f"stage:{i}{at}": (4, 8, 8) for i in range(3) for at in ("", "@pre")}
    loss = OFD()
    loss.build(Shapes(sizes, 3), Shapes(sizes, 3))
    assert loss.needs.student == {"logits", "stage:-2@pre", "stage:-1@pre"}
