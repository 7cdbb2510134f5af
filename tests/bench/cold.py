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
from tests.bench.ratios import Spread, ratios, spread, verdict
from tests.bench.rivals import parts, setting
from tests.bench.rounds import Spent
from tests.bench.scene import Scene, assembly, settle

ROOT = Path(__file__).parents[2]

SAME_WORK = ("evaluation.latency=false", "evaluation.plots=false")
"""A textbook's script measures no latency and draws nothing."""

FIRST_STEP = """
import os, sys, time
from kdrun.training.step import Step
whole = Step.__call__
def first(self, rows):
    whole(self, rows)
    print(time.process_time(), flush=True)
    os._exit(0)
Step.__call__ = first
from kdrun.cli import main
main(sys.argv[1:])
"""

TEXTBOOKS_FIRST_STEP = """
import os, sys, time
from pathlib import Path
import torch
whole = torch.optim.SGD.step
def first(*arguments, **more):
    whole(*arguments, **more)
    print(time.process_time(), flush=True)
    os._exit(0)
torch.optim.SGD.step = first
from tests.bench.textbook import main
main(Path(sys.argv[1]))
"""


def measure(scene: Scene, rounds: int, out: Path, say: Callable[[str], None]) -> dict[str, Spread]:
    """Prints what the commands cost, and what they cost up to their first step. Returns kdrun's start."""
    settle(scene)
    where, script = record.conditions(scene.device, scene.threads), _script(scene)
    found: dict[str, list[Spent]] = {"textbook": [], "kdrun_first": [], "kdrun_second": []}
    starts: dict[str, list[float]] = {"textbook": [], "kdrun": []}
    for number in range(rounds):
        outputs = scene.folder / f"cold-{number}"
        commands = {
            "textbook": ["-m", "tests.bench.textbook", str(script)],
            "kdrun_first": _kdrun(scene, outputs, seed=0),
            "kdrun_second": _kdrun(scene, outputs, seed=1),
        }
        for name in _order(list(commands), number):
            found[name].append(_spent(commands[name]))
        starts["textbook"].append(_printed(["-c", TEXTBOOKS_FIRST_STEP, str(script)]))
        starts["kdrun"].append(
            _printed(["-c", FIRST_STEP, *_kdrun(scene, scene.folder / f"start-{number}", 0)[2:]])
        )
        say(f"round {number + 1} of {rounds}")
    say(f"\ncold: {scene.teacher} -> {scene.student}, {scene.images} {scene.about}, {scene.epochs} epochs")
    base = [one.cpu for one in found["textbook"]]
    for name, spent in found.items():
        cost = [one.cpu for one in spent]
        said = "" if name == "textbook" else verdict(ratios(base, cost))
        wall = spread([one.wall for one in spent])
        say(f"{name:14} {spread(cost)} s of cpu | {wall} s by the clock | {ratios(base, cost)} {said}")
        rows = [one._asdict() for one in spent]
        record.write(out, "cold", name, {"rounds": rows, "scene": scene.overrides(), "environment": where})
    for name, seconds in starts.items():
        say(f"{name:14} {spread(seconds)} s of cpu from start to first step")
        record.write(out, "start", name, {"cpu_s": seconds, "environment": where})
    return {"start": spread(starts["kdrun"])}


def _order(names: list[str], number: int) -> list[str]:
    """The second run needs the table of the first: only the textbook changes its place."""
    return names if number % 2 == 0 else [*names[1:], names[0]]


def _kdrun(scene: Scene, outputs: Path, seed: int) -> list[str]:
    typed = [override for override in scene.taught() if not override.startswith("outputs_dir=")]
    return ["-m", "kdrun", *typed, *SAME_WORK, f"outputs_dir={outputs}", f"seed={seed}"]


def _script(scene: Scene) -> Path:
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


def _printed(arguments: Sequence[str]) -> float:
    """The number in the last line that a command prints."""
    child = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True
    )
    return float(child.stdout.split()[-1])
