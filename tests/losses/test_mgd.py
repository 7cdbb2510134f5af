from __future__ import annotations

import pytest
import torch

from kdrun.errors import KdrunError
from kdrun.losses.mgd import MGD, Generator, mgd
from kdrun.types import Batch, Outputs, Shapes

from .golden_cases import case, matches, run


@pytest.mark.parametrize(
    ("name", "weight"),
    [("channel_mask_classification", 7e-5), ("spatial_mask_detection", 2e-5), ("hand_zero_weights", 1.0)],
)
def test_golden(name: str, weight: float) -> None:
    tensors = case("mgd", name)
    generator = Generator(tensors["student.f"].shape[1], tensors["teacher.f"].shape[1])
    generated = run(generator, tensors, {"": "param."}, tensors["student.f"], tensors["buffer.mask"])
    matches(tensors, weight * mgd(generated, tensors["teacher.f"]))


def test_by_hand() -> None:
    # Four elements of 0.5 against 2, two images: 4 * 1.5^2 each
    assert mgd(torch.full((2, 1, 2, 2), 0.5), torch.full((2, 1, 2, 2), 2.0)).tolist() == [9.0, 9.0]


@pytest.mark.parametrize(("mask", "shape"), [("channel", (400, 6, 1, 1)), ("position", (400, 1, 3, 3))])
def test_masks(mask: str, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    size = Shapes({"stage:-1": (6, 3, 3), "stage:0": (6, 3, 3)}, 1)
    loss = MGD(masked=0.3, mask=mask)
    loss.build(size, size)
    kept: list[torch.Tensor] = []
    monkeypatch.setattr(loss.generator, "forward", lambda maps, drawn: kept.append(drawn) or maps)
    maps = torch.randn(400, 6, 3, 3)
    outputs = Outputs(torch.zeros(400, 2), stages=(maps,))
    loss(outputs, outputs, Batch(maps, torch.zeros(400)))
    assert kept[0].shape == shape
    assert kept[0].float().mean().item() == pytest.approx(0.7, abs=0.03)


def test_refusals() -> None:
    with pytest.raises(KdrunError, match="mask=row: no such mask"):
        MGD(mask="row")
    with pytest.raises(KdrunError, match="must lie in"):
        MGD(masked=1.5)
