"""kill -9 at any moment: the same command continues, and ends with the bits of an undisturbed run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from kdrun.models.weights import read_weights
from tests.stages.runs import play

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

SMALL = [
    "stages=[teacher,student]",
    "control=false",
    "checkpoint.seconds=0",
    "teacher=cnn_digits_small",
    "threads=1",
    "recipe.teacher.batch=100",
    "recipe.student.batch=100",
]

pytestmark = pytest.mark.long  # tests/attack kills a run in every run of the tests

OTHERS: dict[str, tuple[list[str], list[list[Any]]]] = {
    "two phases": (
        [*SMALL, "method=ft", "recipe.teacher.epochs=1", "recipe.student.epochs=4", "phase_one.epochs=2"],
        [
            ["step", 6 + 9],  # within the second epoch of phase one
            ["wrote", "state.pt", 1],  # phase one is done, and nothing of phase two
            ["step", 8],  # within the second epoch of phase two
        ],
    ),
    "a table": (
        [*SMALL, "dataset.views.name=crop_flip", "recipe.teacher.epochs=1", "recipe.student.epochs=2"],
        [
            ["answers", 1],  # half of the first numbers
            ["answers", 2],  # half of their codes
            ["answers", 7],
        ],
    ),
    "a peer": (
        [*SMALL, "method=dml", "recipe.student.epochs=3"],
        [["step", 9]],  # within the second epoch
    ),
    "a chain": (
        [*SMALL, "generations=2", "recipe.teacher.epochs=1", "recipe.student.epochs=3"],
        [
            ["step", 6 + 9],  # within the second epoch of generation 1
            ["wrote", "student.json", 1],  # generation 1 is finished, the student has not begun
            ["step", 9],  # within the student's second epoch
        ],
    ),
    "int8": (
        [
            *(each for each in SMALL if not each.startswith("control")),
            *("quantise=int8", "int8.epochs=2", "recipe.teacher.epochs=1", "recipe.student.epochs=1"),
        ],
        [
            ["step", 6 + 6 + 6 + 12 + 9],  # within the second epoch of the student that the teacher trains
        ],
    ),
}
"""Methods whose trainings have more parts: what is typed, and when it is killed."""


Folders = tuple[Path, Path, list[int]]
"""The outputs of an undisturbed run, of one that was killed at every bomb, and the latter's statuses."""


@pytest.fixture(scope="module")
def every(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Folders]:
    """The default run (`kd`), and those of OTHERS."""
    found: dict[str, Folders] = {}
    plan: list[dict[str, Any]] = []
    for name, (args, bombs) in {"kd": (ARGS, BOMBS), **OTHERS}.items():
        folder = tmp_path_factory.mktemp(name.replace(" ", "_"))
        whole, killed = folder / "whole", folder / "killed"
        found[name] = whole, killed, []
        plan.append({"args": [*args, f"outputs_dir={whole}"], "bomb": None})
        plan += [{"args": [*args, f"outputs_dir={killed}"], "bomb": bomb} for bomb in [*bombs, None]]
    statuses = iter(play(plan))
    for name, (_, bombs) in {"kd": (ARGS, BOMBS), **OTHERS}.items():
        assert next(statuses) == 0
        found[name][2].extend(next(statuses) for _ in [*bombs, None])
    return found


@pytest.fixture(scope="module")
def folders(every: dict[str, Folders]) -> Folders:
    return every["kd"]


@pytest.mark.parametrize(
    ("name", "files"), [("two phases", 4), ("a table", 4), ("a peer", 3), ("a chain", 6), ("int8", 14)]
)
def test_other_trainings_end_with_the_same_bits(every: dict[str, Folders], name: str, files: int) -> None:
    whole, killed, statuses = every[name]
    assert statuses == [-9] * len(OTHERS[name][1]) + [0]
    assert same_weights(whole, killed) == files


def test_every_bomb_killed_and_the_last_command_finished(folders: Folders) -> None:
    assert folders[2] == [130 if kind == "interrupt" else -9 for kind, *_ in BOMBS] + [0]


def test_all_weights_have_the_same_bits(folders: Folders) -> None:
    assert same_weights(*folders[:2]) == 7  # last and val_best of three trainings, and the student's


def same_weights(whole: Path, killed: Path) -> int:
    """How many files of weights two outputs have; all with the same bits, kept answers too."""
    files = sorted(path.relative_to(whole) for path in whole.rglob("*.safetensors"))
    for path in files:
        one, two = read_weights(whole / path), read_weights(killed / path)
        assert one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one), path
    return sum(not path.name.startswith("answers-") for path in files)


def test_metrics_have_each_epoch_once(folders: Folders) -> None:
    def rows(root: Path) -> list[Any]:
        (path,) = root.glob("runs/*/metrics.jsonl")
        return [json.loads(line) for line in path.read_text().splitlines()]

    def shown(root: Path) -> list[Any]:
        return [(r["stage"], r["epoch"], r["loss"], r["terms"], r["validation"]) for r in rows(root)]

    assert shown(folders[0]) == shown(folders[1])
    assert len(shown(folders[1])) == 9


def test_nothing_half_written_is_left(folders: Folders) -> None:
    left = {path.name for path in folders[1].rglob("*") if path.is_file()}
    assert not [name for name in left if name.endswith(".part")]
    assert "state.pt" not in left


def test_the_figures_are_those_of_the_undisturbed_run(folders: Folders) -> None:
    def figures(root: Path) -> Any:
        (path,) = root.glob("runs/*/report.json")
        report = json.loads(path.read_text())
        models = {role: (m["last"], m["val_best"]) for role, m in report["models"].items()}
        return models, report["comparison"]

    assert figures(folders[0]) == figures(folders[1])
