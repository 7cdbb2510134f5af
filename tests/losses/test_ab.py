from __future__ import annotations

import pytest
import torch

from kdrun.losses.ab import ab
from kdrun.losses.ofd import summed
from kdrun.losses.regressors import MapRegressor

from .golden_cases import case, maps, matches, run


def test_golden_with_connectors() -> None:
    tensors = case("ab", "connector_two_maps")
    parts = []
    for i, (student, teacher) in enumerate(maps(tensors)):
        connector = MapRegressor(tuple(student.shape[1:]), tuple(teacher.shape[1:]), relu=False)
        renamed = {name: f"param.connectors.{i}.{name}" for name in ("conv.", "bn.")}
        parts.append(ab(run(connector, tensors, renamed, student), teacher))
    matches(tensors, 0.003 * summed(parts))


@pytest.mark.parametrize("name", ["three_maps_no_connector", "hand"])
def test_golden(name: str) -> None:
    tensors = case("ab", name)
    matches(tensors, 0.003 * summed([ab(*pair) for pair in maps(tensors)]))


def test_by_hand() -> None:
    # Inactive: 0.5 is 1.5 above -1, -2 is low enough; active: 0.25 is 0.75 below 1, 3 enough; 0 is inactive
    student = torch.tensor([0.5, -2.0, 0.25, 3.0, -1.0]).view(1, 1, 1, 5)
    teacher = torch.tensor([-1.0, -1.0, 2.0, 2.0, 0.0]).view(1, 1, 1, 5)
    assert ab(student, teacher).item() == pytest.approx(1.5**2 + 0.75**2)


def test_only_the_teachers_signs_count() -> None:
    student, teacher = torch.randn(2, 3, 4, 5, 5, generator=torch.Generator().manual_seed(0))
    assert torch.equal(ab(student, teacher), ab(student, 7 * teacher))
    assert not ab(2 * teacher.sign(), teacher).any()
