"""Short runs, and processes that are killed, for the tests of stages."""

from __future__ import annotations

import json
import multiprocessing
import os
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]

SHORT = (
    "recipe.teacher.epochs=2",
    "recipe.student.epochs=2",
    "evaluation.latency=false",
    "evaluation.plots=false",
)


def play(plan: list[dict[str, Any]]) -> list[int]:
    """The exit statuses of one process for each {"args": [...], "bomb": [kind, count] or None}, one after the
    other; negative for the signal that ended it.
    """
    return [ended(begun(entry["args"], entry["bomb"])) for entry in plan]


def begun(args: list[str], bomb: list[Any] | None = None, out: str = os.devnull, **environment: str) -> Any:
    """A process that runs kdrun, all paths given as absolute ones. environment: variables.

    It is forked from a server, which is started once. That has imported everything and computed nothing.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.stages.killed"])
    process = context.Process(target=_run, args=(args, bomb, out, environment))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)  # where the server finds what it imports
        process.start()
    return process


def report(outputs: Path = Path("outputs")) -> Any:
    """That of the only run."""
    (path,) = outputs.glob("runs/*/report.json")
    return json.loads(path.read_text())


def folders(outputs: Path) -> dict[str, Path]:
    """Those of all trainings of the only run, by name."""
    (path,) = outputs.glob("runs/*/plan.json")
    return {each["name"]: outputs / each["folder"] for each in json.loads(path.read_text())["trainings"]}


def ended(process: Any) -> int:
    """Its exit status, when it has ended."""
    process.join()
    status: int = process.exitcode
    return status


def _run(*arguments: Any) -> None:
    from tests.stages.killed import run  # imports everything, which is for the server

    run(*arguments)
