from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from kdrun.errors import KdrunError
from kdrun.losses.at import attention
from kdrun.losses.ft import FT, Convolutions, ft
from kdrun.types import Batch, Outputs, Shapes

from .golden_cases import case, close, matches, run

NORMED = {
    f"{kind}s.{i}.": f".{3 * i + number}." for i in range(3) for number, kind in enumerate(("conv", "norm"))
}
"""Our names of three convolutions and their norms, and where they lie in a case."""


def through(module: Convolutions, tensors: dict[str, Tensor], prefix: str, maps: Tensor) -> Tensor:
    return run(module, tensors, {ours: prefix + theirs for ours, theirs in NORMED.items()}, maps)


@pytest.mark.parametrize("name", ["paper_form_same_size", "repdistiller_form_same_size"])
def test_golden(name: str) -> None:
    tensors = case("ft", name)
    ours = through(Convolutions(8, 6, norm=True), tensors, "param.translator.encoder", tensors["student.f"])
    theirs = through(Convolutions(12, 6), tensors, "teacher.paraphraser.encoder", tensors["teacher.f"])
    # The second form compares where factors are large, by at's attention
    plain = name.startswith("paper")
    matches(tensors, ft(ours, theirs) if plain else F.l1_loss(attention(ours, 2), attention(theirs, 2)))


def test_golden_of_the_paraphraser() -> None:
    tensors = case("ft", "paraphraser_reconstruction")
    factors = through(Convolutions(12, 6), tensors, "param.encoder", tensors["teacher.f"])
    made = through(Convolutions(6, 12, back=True), tensors, "param.decoder", factors)
    matches(tensors, F.mse_loss(made, tensors["teacher.f"]))


def test_golden_of_factors() -> None:
    tensors = case("ft", "hand_paper_form")
    matches(tensors, ft(tensors["student.f"], tensors["teacher.f"]))


def test_by_hand() -> None:
    # (3, 4) / 5 against (0, 1): (0.6 + 0.2) / 2
    student, teacher = torch.tensor([3.0, 4.0]).view(1, 2, 1, 1), torch.tensor([0.0, 9.0]).view(1, 2, 1, 1)
    assert ft(student, teacher).item() == pytest.approx(0.4)


def test_lengths_change_nothing() -> None:
    student, teacher = torch.randn(
        2, 3, 4, 5, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    scale = torch.arange(1.0, 4.0).view(3, 1, 1, 1)
    close(ft(student * scale, teacher / scale), ft(student, teacher), 1e-12)
    assert not ft(student, 2 * student).any()


def built(part: str) -> FT:
    torch.manual_seed(len(part))
    loss = FT(part)
    loss.build(Shapes({"stage:0": (3, 6, 6)}, 1), Shapes({"stage:0": (5, 4, 4)}, 1))
    return loss


def test_the_paraphraser_learns_in_its_own_part_and_is_the_other_parts() -> None:
    first, second = built("paraphrase"), built("transfer")
    maps = torch.randn(2, 3, 6, 6, requires_grad=True)
    student = Outputs(torch.zeros(2, 2), stages=(maps,))
    teacher = Outputs(torch.zeros(2, 2), stages=(torch.randn(2, 5, 4, 4),))
    batch = Batch(maps, torch.zeros(2))
    assert (first.reaches_student, second.reaches_student) == (False, True)
    first(student, teacher, batch).sum().backward()
    assert maps.grad is None
    assert all(parameter.grad is not None for parameter in first.parameters())
    wanted = [name for name in second.state_dict() if name.startswith("paraphraser.")]
    shared = {name: first.state_dict()[name] for name in wanted}
    second.load_state_dict(shared, strict=False)
    second(student, teacher, batch).sum().backward()
    assert maps.grad is not None
    assert all(parameter.grad is None for parameter in second.paraphraser.parameters())
    assert {name for name, p in second.named_parameters() if not p.requires_grad} == set(wanted)


def test_refusals() -> None:
    with pytest.raises(KdrunError, match="part=both: no such part"):
        FT("both")
    with pytest.raises(KdrunError, match="ratio=0: must be above 0"):
        FT(ratio=0)
