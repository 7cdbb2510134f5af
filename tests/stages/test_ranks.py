"""A run of two processes equals that of one, ends with one line if a process dies, and continues."""

from __future__ import annotations

import json
import shutil
import socket
from pathlib import Path
from typing import Any

import pytest
import torch

from kdrun.models.weights import read_weights
from tests.stages.runs import begun, ended

ARGS = [
    "dataset=digits",
    "dataset.views.name=none",
    "dataset.train=105",
    "dataset.labelled=5",
    "dataset.validation=50",
    "dataset.test=100",
    "teacher=cnn_digits_small",
    "student=resnet8",
    "method=kd",
    "+loss@loss.relations=rkd",
    "control=false",
    "threads=1",
    "recipe.teacher.epochs=1",
    "recipe.student.epochs=2",
    "recipe.teacher.batch=51",
    "recipe.student.batch=51",
    "checkpoint.seconds=0",
    "evaluation.figures=[accuracy]",
    "evaluation.latency=false",
    "evaluation.plots=false",
    "runtime.sync_bn=true",
]
"""An epoch has two batches of 51 rows, 25 and 26 of the ranks, and one of 3, all of rank 0."""


def port() -> str:
    """A free one."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return str(one.getsockname()[1])


def two(folder: Path, *more: str, bombs: dict[int, list[Any]] | None = None) -> list[tuple[int, str]]:
    """The exit status and output of each rank. They have no folder in common, and rank 1 writes nothing."""
    place, folders = port(), [folder, folder.with_name("none")]
    outs = [folder.with_name(f"{folder.name}-{rank}-{place}") for rank in range(2)]
    common = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": place}
    every = [
        begun(
            [*ARGS, *more, f"outputs_dir={folders[rank]}"],
            (bombs or {}).get(rank),
            str(outs[rank]),
            RANK=str(rank),
            LOCAL_RANK=str(rank),
            **common,
        )
        for rank in range(2)
    ]
    ends = [(ended(each), out.read_text()) for each, out in zip(every, outs, strict=True)]
    assert not folders[1].exists()
    return ends


def weights(folder: Path) -> dict[str, torch.Tensor]:
    files = sorted(folder.glob("*/*/last.safetensors"))
    assert len(files) == 2
    return {
        f"{file.parent.name}/{name}": tensor for file in files for name, tensor in read_weights(file).items()
    }


def epochs(folder: Path) -> list[dict[str, Any]]:
    """The lines of the student's metrics."""
    (file,) = folder.glob("runs/*/metrics.jsonl")
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_two_processes_are_one_and_survive_the_death_of_either(tmp_path: Path) -> None:
    one, whole, killed = tmp_path / "one", tmp_path / "two", tmp_path / "killed"
    assert ended(begun([*ARGS, f"outputs_dir={one}"])) == 0
    (status, shown), (other, nothing) = two(whole)
    assert (status, other, nothing) == (0, 0, ""), shown
    assert "\nranks  2 processes share each batch\n       loss.relations reads the outputs of all" in shown
    alone, both = weights(one), weights(whole)  # of the same folders: the number of processes is in no key
    for name, tensor in alone.items():
        torch.testing.assert_close(both[name], tensor, rtol=0, atol=5e-4, msg=name)
    for line, expected in zip(epochs(whole), epochs(one), strict=True):
        assert line["terms"] == pytest.approx(expected["terms"], rel=1e-4)
        assert line["validation"] == pytest.approx(expected["validation"], rel=1e-3)
    tables = [folder.glob("models/*/tables/*/*.f32") for folder in (one, whole)]
    sizes = [{file.name: file.stat().st_size for file in files} for files in tables]
    assert sizes[0] == sizes[1] and sizes[1]["logits.f32"] == 4 * 10 * 105  # each answer was kept once
    shutil.copytree(whole / "models", killed / "models")
    only = "stages=[teacher,student]"
    last = "torchrun: another process of this run has ended; the same command continues\n"
    for dying, step in ((1, 5), (0, 2)):  # both in the second step of the second epoch
        ends = two(killed, only, bombs={dying: ["step", step]})
        assert [status for status, _ in ends] == ([-9, 1] if dying == 0 else [1, -9])
        text = ends[1 - dying][1]
        assert text == last if dying == 0 else text.endswith("\n" + last), text
        assert "[W" not in text
        assert len(epochs(killed)) == 1
    assert [status for status, _ in two(killed, only)] == [0, 0]
    assert all(torch.equal(tensor, both[name]) for name, tensor in weights(killed).items())


def test_an_error_on_one_rank_or_on_all_is_one_line(tmp_path: Path) -> None:
    only = "stages=[teacher]"
    (status, text), (other, nothing) = two(tmp_path / "two", only, bombs={0: ["interrupt", 2]})
    assert (status, other, nothing) == (130, 1, "")
    assert text.splitlines()[-1] == "interrupted; the same command continues"
    (status, text), (other, nothing) = two(tmp_path / "two", only, "recipe.teacher.lr=1e14")
    assert (status, other, nothing) == (1, 1, "")
    assert text.splitlines()[-1].startswith("teacher: loss.hard is not finite by step ")
