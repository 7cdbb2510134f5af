"""docs/methods_digits.md tells of every method, and the script reads runs as they are."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import pytest

from tests.scripts import loaded

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "methods_digits.md"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return loaded("methods_table")


def report(folder: Path, method: str, seed: int, student: float, control: float) -> None:
    models = {
        role: {"last": {"test": {"top1": top1}}}
        for role, top1 in (("student", student), ("control", control))
    }
    (folder / "runs" / f"{method}-{seed}").mkdir(parents=True)
    (folder / "runs" / f"{method}-{seed}" / "report.json").write_text(
        json.dumps(
            {
                "dataset": {"name": "digits"},
                "config": {"method": method, "seed": seed},
                "headline": "val_best",
                "models": models,
            }
        )
    )


def test_rows_are_means_over_seeds_best_first(script: ModuleType, tmp_path: Path) -> None:
    for seed in (0, 1, 2):
        report(tmp_path, "at", seed, 90.0 + seed, 89.0)
        report(tmp_path, "kd", seed, 95.0 - seed, 89.0)
    report(tmp_path, "sp", 0, 99.0, 89.0)  # one seed is not three
    found = script.rows(tmp_path, "digits", (0, 1, 2))
    assert [row.method for row in found] == ["kd", "at"]
    assert found[1].gain == (1.0, 2.0, 3.0)
    refused = {"fsp": "loss.flow.stages=0: equal channels are needed"}
    text = script.section("digits", found, ["at", "kd", "sp"], refused)
    assert "| kd | Knowledge distillation: hard labels and soft targets | 94.0 ± 1.0 | +5.0 ± 1.0 |" in text
    assert "Control: 89.0 ± 0.0 %." in text
    assert "- `fsp` refuses this pair: `loss.flow.stages=0: equal channels are needed`\n" in text
    assert "- `sp` was not run." in text


def test_a_method_that_refuses_the_pair_is_left_out(script: ModuleType) -> None:
    taken, refused = script.takers("digits", ["kd", "fsp"])
    assert taken == ["kd"]
    assert list(refused) == ["fsp"] and "equal channels are needed" in refused["fsp"]


def test_every_method_is_on_the_page(script: ModuleType) -> None:
    text = PAGE.read_text()
    for method in script.descriptions():
        assert f"| {method} | " in text or f"- `{method}` " in text, (
            f"{method}: scripts/methods_table --missing"
        )


def test_new_methods_are_named_without_a_new_table(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(script, "descriptions", lambda: {"kd": "", "fsp": "", "soft": ""})
    page = "\n".join(["head\n", *(script.section(name, [], ["kd"], {}) for name in ("digits_few", "digits"))])
    few, digits = script.completed(page).split("## ")[1:]
    for text in (few, digits):
        first, second, third = text.strip().splitlines()[-3:]
        assert first == "- `kd` was not run." and third == "- `soft` was not run."
        assert second.startswith("- `fsp` refuses this pair: `phase_one.loss.flow.stages=0: equal channels")
    assert few.endswith(".\n\n") and digits.endswith(".\n")
    assert script.completed(script.completed(page)) == script.completed(page)


def test_a_complete_page_stays_as_it_is(script: ModuleType) -> None:
    text = PAGE.read_text()
    assert script.completed(text) == text
