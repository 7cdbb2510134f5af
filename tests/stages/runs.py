"""Short runs, and processes that are killed, for the tests of stages."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]

SHORT = (
    "recipe.teacher.epochs=2",
    "recipe.student.epochs=2",
    "evaluation.latency=false",
    "evaluation.plots=false",
)


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
