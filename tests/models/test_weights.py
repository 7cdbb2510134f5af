"""Weight files: read from many tools' layouts, nothing executed, one line for what does not fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import nn

from kdrun.errors import KdrunError
from kdrun.models.weights import load_into, read_weights, save_weights


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))


def test_round_trip_with_metadata(tmp_path: Path) -> None:
    save_weights(tmp_path / "w.safetensors", model().state_dict(), {"classes": ["a", "b"]})
    found = read_weights(tmp_path / "w.safetensors")
    assert all(torch.equal(found[name], tensor) for name, tensor in model().state_dict().items())
    with safe_open(tmp_path / "w.safetensors", framework="pt") as file:
        assert json.loads(file.metadata()["classes"]) == ["a", "b"]


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"model": state, "opt": {"lr": 0.1}},
        lambda state: {"state_dict": {f"module.{name}": t for name, t in state.items()}},
    ],
    ids=["plain", "state_dict", "model", "data parallel"],
)
def test_checkpoints_of_other_tools(tmp_path: Path, wrap: Any) -> None:
    torch.save(wrap(model().state_dict()), tmp_path / "w.pt")
    fresh = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    load_into(fresh, read_weights(tmp_path / "w.pt"), "teacher.checkpoint", "w.pt")
    assert torch.equal(fresh[0].weight, model()[0].weight)  # type: ignore[index]


def test_nothing_is_executed(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "executed",))

    torch.save({"state_dict": Evil()}, tmp_path / "w.pt")
    with pytest.raises(KdrunError, match="more in it than tensors"):
        read_weights(tmp_path / "w.pt")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt"])
def test_truncated_files_are_one_line(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name.endswith("pt"):
        torch.save(model().state_dict(), path)
    else:
        save_weights(path, model().state_dict(), {})
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(KdrunError, match="damaged") as caught:
        read_weights(path)
    assert "\n" not in str(caught.value)


def test_missing_files_and_files_without_weights(tmp_path: Path) -> None:
    with pytest.raises(KdrunError, match="no such file"):
        read_weights(tmp_path / "none.pt")
    torch.save({"epoch": 3}, tmp_path / "w.pt")
    with pytest.raises(KdrunError, match="holds no state dict"):
        read_weights(tmp_path / "w.pt")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda s: s.pop("0.bias"), r"0\.bias is missing \(1 missing, 0 unknown, 0 of another shape\)"),
        (lambda s: s.update(extra=torch.ones(1)), r"extra is not in the model \(0 missing, 1 unknown"),
        (
            lambda s: s.update({"0.weight": torch.ones(5, 3)}),
            r"0\.weight has shape \[5, 3\], the model's \[4, 3\]",
        ),
    ],
    ids=["missing", "extra", "shape"],
)
def test_another_architecture_is_named_and_nothing_is_loaded(change: Any, problem: str) -> None:
    state = {name: torch.zeros_like(tensor) for name, tensor in model().state_dict().items()}
    change(state)
    whole = model()
    with pytest.raises(
        KdrunError, match=rf"^teacher\.checkpoint=x: weights of another architecture: {problem}"
    ):
        load_into(whole, state, "teacher.checkpoint", "x")
    assert torch.equal(whole[0].weight, model()[0].weight)  # type: ignore[index]
