"""kill -9 at any moment: the same command continues, and ends with the bits of an undisturbed run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from kdrun.stages.weights import read_weights

ROOT = Path(__file__).parent.parent.parent

ARGS = [
    "recipe.teacher.epochs=3",
    "recipe.student.epochs=3",
    "checkpoint.seconds=0",
    "evaluation.latency=false",
    "evaluation.plots=false",
]

BOMBS: list[list[Any]] = [
    ["step", 1],  # the teacher's first step
    ["step", 30],  # within the teacher's second epoch
    ["write", "state.pt", 1],  # in the middle of writing the teacher's state
    ["wrote", "state.pt", 1],  # the teacher is trained, its state written, nothing else yet
    ["write", "last.safetensors", 1],  # in the middle of writing its weights
    ["wrote", "model.json", 1],  # the teacher is just finished
    ["step", 25],  # within the student's second epoch
    ["line", 1],  # half a line of the student's metrics written
    ["write", "state.pt", 2],  # the student's last state
    ["wrote", "val_best.safetensors", 1],  # all weights of the student written, not yet marked as finished
    ["interrupt", 40],  # Ctrl-C within the control's third epoch
    ["step", 10],  # once more, right after it was continued
    ["write", "model.json", 1],  # the control's mark
    ["write", "student.safetensors", 1],  # the evaluation
    ["write", "report.json", 1],  # the very end
]


def play(folder: Path, plan: list[dict[str, Any]]) -> list[int]:
    """The exit statuses of one process for each entry, one after the other."""
    (folder / "plan.json").write_text(json.dumps(plan))
    done = subprocess.run(
        [sys.executable, "-m", "tests.stages.killed", str(folder / "plan.json")],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    return [int(line.split()[1]) for line in done.stdout.splitlines() if line.startswith("exit ")]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, list[int]]:
    """The outputs of an undisturbed run, of one that was killed at every bomb, and the latter's statuses."""
    folder = tmp_path_factory.mktemp("kills")
    whole, killed = folder / "whole", folder / "killed"
    plan = [{"args": [*ARGS, f"outputs_dir={whole}"], "bomb": None}]
    plan += [{"args": [*ARGS, f"outputs_dir={killed}"], "bomb": bomb} for bomb in [*BOMBS, None]]
    statuses = play(folder, plan)
    assert statuses[0] == 0
    return whole, killed, statuses[1:]


def test_every_bomb_killed_and_the_last_command_finished(folders: tuple[Path, Path, list[int]]) -> None:
    assert folders[2] == [130 if kind == "interrupt" else -9 for kind, *_ in BOMBS] + [0]


def test_all_weights_have_the_same_bits(folders: tuple[Path, Path, list[int]]) -> None:
    whole, killed, _ = folders
    files = sorted(path.relative_to(whole) for path in whole.rglob("*.safetensors"))
    assert len(files) == 7  # last and val_best of three trainings, and the student's
    for path in files:
        one, two = read_weights(whole / path), read_weights(killed / path)
        assert one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one), path


def test_metrics_have_each_epoch_once(folders: tuple[Path, Path, list[int]]) -> None:
    def rows(root: Path) -> list[Any]:
        (path,) = root.glob("runs/*/metrics.jsonl")
        return [json.loads(line) for line in path.read_text().splitlines()]

    def shown(root: Path) -> list[Any]:
        return [(r["stage"], r["epoch"], r["loss"], r["terms"], r["validation"]) for r in rows(root)]

    assert shown(folders[0]) == shown(folders[1])
    assert len(shown(folders[1])) == 9


def test_nothing_half_written_is_left(folders: tuple[Path, Path, list[int]]) -> None:
    left = {path.name for path in folders[1].rglob("*") if path.is_file()}
    assert not [name for name in left if name.endswith(".part")]
    assert "state.pt" not in left


def test_the_figures_are_those_of_the_undisturbed_run(folders: tuple[Path, Path, list[int]]) -> None:
    def figures(root: Path) -> Any:
        (path,) = root.glob("runs/*/report.json")
        report = json.loads(path.read_text())
        models = {role: (m["last"], m["val_best"]) for role, m in report["models"].items()}
        return models, report["comparison"]

    assert figures(folders[0]) == figures(folders[1])
