"""scripts/step_costs: what it measures of a small pair, and what it writes."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from types import ModuleType

import pytest
import torch

from tests.scripts import loaded

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def script(one_thread: None) -> ModuleType:
    return loaded("step_costs")


def test_a_step_of_each_kind_of_method(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script, "BATCH", 16)
    names = ["none", "simkd", "dml", "ft"]
    costs = dict(script.measured(names, ("resnet8", "resnet8"), 1))
    assert list(costs) == names and all(0.1 < cost < 20 for cost in costs.values())
    assert costs["none"] < costs["dml"]  # one model learns, and two


def test_the_pair_stays_as_it_is(script: ModuleType) -> None:
    (step,) = script.steps("at", ("resnet8", "resnet8"))
    before = [tensor.clone() for tensor in script.built("resnet8").model.state_dict().values()]
    step()
    after = script.built("resnet8").model.state_dict().values()
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_the_line_is_written_once_below_the_other_comments(script: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("# @package _global_\n# What it is | me, 2020\n# More.\ndefaults:\n  # within\n  - a\n")
    assert not script.costed(path)
    for cost in (1.234, 2.0):
        script.write(path, script.line(cost, ("big", "small"), date(2026, 1, 2)))
    assert script.costed(path)
    assert path.read_text().splitlines() == [
        "# @package _global_",
        "# What it is | me, 2020",
        "# More.",
        "# step cost 2.00 (big -> small, batch 64, 1 CPU thread, 2026-01-02)",
        "defaults:",
        "  # within",
        "  - a",
    ]
