from __future__ import annotations

import pytest
import torch

from kdrun.losses.reviewkd import Fusion, hierarchical, review

from .golden_cases import case, close, maps, matches


@pytest.mark.parametrize("name", ["hcl_only_8_4_2_1", "hand_hcl_checkerboard"])
def test_golden_levels(name: str) -> None:
    tensors = case("reviewkd", name)
    matches(tensors, torch.stack([hierarchical(*pair) for pair in maps(tensors)]).sum(0))


@pytest.mark.parametrize("name", ["abf_full_same_sizes", "abf_full_teacher_larger"])
def test_golden(name: str) -> None:
    tensors = case("reviewkd", name)
    fusions: list[torch.nn.Module] = []
    for i, (ours, theirs) in enumerate(maps(tensors)):
        fusion = Fusion(ours.shape[1], 12, tuple(theirs.shape[1:]), deepest=i == 2)
        for path, _ in list(fusion.named_parameters()):
            owner, _, parameter = path.rpartition(".")
            layer = fusion.get_submodule(owner)
            del layer._parameters[parameter]
            setattr(layer, parameter, tensors[f"param.abf{i}.{path}"])
        fusions.append(fusion.double())
    matches(tensors, review(fusions, maps(tensors)))


def test_by_hand() -> None:
    # A checkerboard of +-1 against 0: 1 in full, 0 at every pooled level; weights 1, 1/2, 1/4, 1/8
    board = 1.0 - 2.0 * (torch.arange(8)[:, None] + torch.arange(8)[None]).remainder(2)
    assert hierarchical(board[None, None], torch.zeros(1, 1, 8, 8)).item() == pytest.approx(1 / 1.875)


def test_only_levels_below_the_size_count() -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 3, 4, 1, 1, generator=generator, dtype=torch.float64)
    close(hierarchical(student, teacher), (student - teacher).square().mean((1, 2, 3)), 1e-12)
    assert not hierarchical(student, student.clone()).any()
