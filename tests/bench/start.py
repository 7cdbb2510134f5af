"""From the start of a command to the end of its first step."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.bench import record
from tests.bench.cold import ROOT, command, textbooks_script
from tests.bench.ratios import Spread, spread, verdict
from tests.bench.scene import Scene, settle

END = """
import os, sys, time
from pathlib import Path
def ending(act):
    def first(*arguments, **more):
        act(*arguments, **more)
        print(time.process_time(), flush=True)
        os._exit(0)
    return first
"""

KDRUN = """
from kdrun.training.step import Step
Step.__call__ = ending(Step.__call__)
from kdrun.cli import main
main(sys.argv[1:])
"""

TEXTBOOK = """
import torch
torch.Tensor.item = ending(torch.Tensor.item)
from tests.bench.textbook import main
main(Path(sys.argv[1]))
"""


def measure(scene: Scene, rounds: int, out: Path, say: Callable[[str], None]) -> dict[str, Spread]:
    """Prints CPU seconds of kdrun, and of a textbook's script, by turns. Returns kdrun's."""
    settle(scene)
    where, script = record.conditions(scene.device, scene.threads), textbooks_script(scene)
    found: dict[str, list[float]] = {"textbook": [], "kdrun": []}
    for number in range(rounds):
        typed = command(scene, scene.folder / f"start-{number}", seed=0)[2:]
        found["textbook"].append(_printed(["-c", END + TEXTBOOK, str(script)]))
        found["kdrun"].append(_printed(["-c", END + KDRUN, *typed]))
    said = verdict(found["textbook"], found["kdrun"])
    say(f"\nfrom start to the end of the first step, {scene.about}: s of cpu")
    for name, seconds in found.items():
        say(f"{name:16} {spread(seconds)}" + (f" {said}" if name == "kdrun" else ""))
        record.write(out, "start", name, {"cpu_s": seconds, "scene": scene.overrides(), "environment": where})
    return {"start": spread(found["kdrun"])}


def _printed(arguments: Sequence[str]) -> float:
    """The number in the last line that Python prints."""
    child = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True
    )
    return float(child.stdout.split()[-1])
