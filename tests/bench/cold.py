"""Whole commands, from the first import to the last file: kdrun, and a textbook script doing as much."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tests.bench import record
from tests.bench.ratios import ratios, spread, verdict
from tests.bench.rivals import parts, setting
from tests.bench.rounds import Spent
from tests.bench.scene import Scene, assembly, settle

ROOT = Path(__file__).parents[2]

SAME_WORK = ("evaluation.latency=false", "evaluation.plots=false")
"""A textbook's script measures no latency and draws nothing."""


def measure(scene: Scene, rounds: int, out: Path, say: Callable[[str], None]) -> None:
    """Prints what the commands cost; kdrun's first run with its seed, and the next with another."""
    settle(scene)
    where, script = record.conditions(scene.device, scene.threads), textbooks_script(scene)
    found: dict[str, list[Spent]] = {"textbook": [], "kdrun_first": [], "kdrun_second": []}
    for number in range(rounds):
        outputs = scene.folder / f"cold-{number}"
        commands = {
            "textbook": ["-m", "tests.bench.textbook", str(script)],
            "kdrun_first": command(scene, outputs, seed=0),
            "kdrun_second": command(scene, outputs, seed=1),
        }
        for name in _order(list(commands), number):
            found[name].append(_spent(commands[name]))
        say(f"round {number + 1} of {rounds}")
    say(f"\ncold: {scene.teacher} -> {scene.student}, {scene.images} {scene.about}, {scene.epochs} epochs")
    base = [one.cpu for one in found["textbook"]]
    for name, spent in found.items():
        cost = [one.cpu for one in spent]
        said = "" if name == "textbook" else verdict(base, cost)
        wall = spread([one.wall for one in spent])
        say(f"{name:14} {spread(cost)} s of cpu | {wall} s by the clock | {ratios(base, cost)} {said}")
        rows = [one._asdict() for one in spent]
        record.write(out, "cold", name, {"rounds": rows, "scene": scene.overrides(), "environment": where})


def _order(names: list[str], number: int) -> list[str]:
    """The second run needs the table of the first: only the textbook changes its place."""
    return names if number % 2 == 0 else [*names[1:], names[0]]


def command(scene: Scene, outputs: Path, seed: int) -> list[str]:
    """Of kdrun, for Python."""
    typed = [override for override in scene.taught() if not override.startswith("outputs_dir=")]
    return ["-m", "kdrun", *typed, *SAME_WORK, f"outputs_dir={outputs}", f"seed={seed}"]


def textbooks_script(scene: Scene) -> Path:
    """The file that tells the textbook's script what to do, and the images beside it."""
    built = assembly(scene.taught())
    images, arrays = scene.folder / "images.npz", parts(built)
    np.savez(
        images, **{f"{name}_{kind}": array for name, part in arrays.items() for kind, array in _named(part)}
    )
    nodes = {role: _node(getattr(built.run, role)) for role in ("teacher", "student")}
    told = {
        "data": str(images),
        "parts": list(arrays),
        **nodes,
        "classes": len(built.data.classes),
        "weights": str(scene.weights),
        "setting": setting(built)._asdict(),
        "epochs": scene.epochs,
        "seed": 0,
        "threads": scene.threads,
    }
    path = scene.folder / "textbook.json"
    path.write_text(json.dumps(told))
    return path


def _named(part: tuple[Any, Any]) -> list[tuple[str, Any]]:
    return [("images", part[0]), ("labels", part[1])]


def _node(model: Any) -> dict[str, Any]:
    return {"name": model.name, "family": model.family, "args": dict(model.args), "stem": model.stem}


def _spent(arguments: Sequence[str]) -> Spent:
    """Of a command and its children."""
    before, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, *arguments], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Spent(cpu, time.perf_counter() - wall, 0.0, os.getloadavg()[0])
