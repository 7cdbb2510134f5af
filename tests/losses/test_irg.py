from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from kdrun.losses.irg import IRG, distances, graph
from kdrun.types import Batch, Outputs, Shapes

from .golden_cases import case, close, matches, names


@pytest.mark.parametrize("name", names("irg"))
def test_golden(name: str) -> None:
    tensors = case("irg", name)
    outputs, shapes = [], []
    for side in ("student", "teacher"):
        maps = tensors[f"{side}.fm1"], tensors[f"{side}.fm2"]
        outputs.append(Outputs(tensors[f"{side}.logits"], tensors[f"{side}.feat"], (maps[0], *maps)))
        sizes = (tuple(m.shape[1:]) for m in (maps[0], *maps))
        shapes.append(Shapes({f"stage:{i}": size for i, size in enumerate(sizes)}, 3))
    loss = IRG().double()
    loss.build(*shapes)
    loss.vertex = torch.tensor(0.1, dtype=torch.float64)
    matches(tensors, loss(*outputs, Batch(maps[0], torch.zeros(len(maps[0])))))
    if name == "same_sizes":
        ours, theirs = (
            graph(tensors[f"{side}.fm1"], tensors[f"{side}.fm2"], tensors[f"{side}.feat"])
            for side in ("student", "teacher")
        )
        close(F.mse_loss(ours.edges, theirs.edges), tensors["loss.edge"])
        close(F.mse_loss(ours.moves, theirs.moves), tensors["loss.transform"])


def test_by_hand() -> None:
    # 0, 1, 3 on a line: squared distances 1, 4, 9 over 9
    expected = torch.tensor([[0.0, 1, 9], [1, 0, 4], [9, 4, 0]]) / 9
    torch.testing.assert_close(distances(torch.tensor([[0.0], [1.0], [3.0]])), expected)


def test_scale_and_shift_change_no_distance() -> None:
    features = torch.randn(6, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    close(distances(4 * features + 100), distances(features), 1e-9)
